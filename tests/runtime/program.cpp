// A C++17 program that uses strop.hpp; linked with the runtime library.
//
//     program ENGINE
//
// ENGINE is the arithmetic engine of synthetic.py. Exits with 0 when everything holds.
#include <cstdio>
#include <utility>
#include <vector>

#include "strop.hpp"

#define EXPECT(condition)                                                   \
    do {                                                                    \
        if (!(condition)) {                                                 \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition);    \
            return 1;                                                       \
        }                                                                   \
    } while (0)

template <typename F> static int code_of(F &&f)
{
    try {
        f();
    } catch (const strop::Error &error) {
        return error.code();
    }
    return STROP_OK;
}

int main(int, char **arguments)
{
    strop::Engine engine(arguments[1]);
    std::vector<float> a(1024, 2), b(1024, 3), sum(1024);
    double total = 0;

    EXPECT(engine.inputs().size() == 2 && engine.inputs()[0].name == "a");
    EXPECT((engine.inputs()[1].shape == std::vector<std::int64_t>{16, 64}));
    EXPECT(engine.outputs()[1].dtype == STROP_F64 && engine.outputs()[1].shape.empty());
    EXPECT(engine.steps().size() == 3 && engine.steps()[2].name == "total");
    EXPECT(engine.manifest() == "{\"name\": \"synthetic\"}" && !engine.graph().empty());
    EXPECT(!engine.target().empty() && engine.isa() == "portable");
    EXPECT(engine.memory().weights == 128);
    EXPECT(code_of([] { strop::Engine("/nonexistent"); }) == STROP_ERR_SYSTEM);
    EXPECT(code_of([] { strop::Engine("text", 4); }) == STROP_ERR_FILE);

    strop::Engine moved = std::move(engine);
    strop::Context context(moved, 2);
    EXPECT(context.threads() == 2 && context.memory().arena == 4096);
    EXPECT(code_of([&] { context.run(); }) == STROP_ERR_UNBOUND);
    context.bind_input(0, a.data(), a.size());
    EXPECT(code_of([&] { context.bind_input(1, &total, 512); }) == STROP_ERR_ARGUMENT);
    EXPECT(code_of([&] { context.bind_input(1, b.data(), 1023); }) == STROP_ERR_ARGUMENT);
    context.bind_input(1, static_cast<const void *>(b.data()), 4096);
    context.bind_output(0, sum.data(), sum.size());
    context.bind_output(1, &total, 1);
    context.run();
    EXPECT(sum[0] == 2.5f && sum[1023] == 10.0f);
    EXPECT(context.profile(3).size() == 3);
    std::puts("ok");
    return 0;
}
