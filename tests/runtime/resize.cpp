// A C++17 program that runs an engine at several shapes by strop.hpp; linked with the runtime library.
//
//     program ENGINE
//
// ENGINE is the dynamic engine of synthetic.py. Exits with 0 when everything holds.
#include <cstdio>
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
    strop::Context context(engine, 1);

    EXPECT((engine.inputs()[0].most == std::vector<std::int64_t>{8, 64}));
    EXPECT((engine.inputs()[0].step == std::vector<std::int64_t>{1, 4}));
    for (std::int64_t rows : {8, 1, 5}) {
        context.resize({{rows, 12}, {rows}});
        const std::vector<strop::Tensor> outputs = context.outputs();
        EXPECT((outputs[0].shape == std::vector<std::int64_t>{rows, 12}));
        EXPECT(context.inputs()[1].bytes == static_cast<std::uint64_t>(rows) * 4);
        std::vector<float> a(static_cast<std::size_t>(rows) * 12, 1.5f), b(static_cast<std::size_t>(rows)), y(a.size());
        std::vector<float> last(12), same(b.size());
        context.bind_input(0, a.data(), a.size());
        context.bind_input(1, b.data(), b.size());
        context.bind_output(0, y.data(), y.size());
        context.bind_output(1, last.data(), last.size());
        context.bind_output(2, same.data(), same.size());
        context.run();
        EXPECT(y.front() == 6 && y.back() == 6 && last.back() == 3);
    }
    EXPECT(code_of([&] { context.resize({{9, 12}, {9}}); }) == STROP_ERR_SHAPE);
    EXPECT(code_of([&] { context.resize({{2, 12, 1}, {2}}); }) == STROP_ERR_SHAPE);
    EXPECT(code_of([&] { context.resize({{2, 12}}); }) == STROP_ERR_ARGUMENT);
    std::puts("ok");
    return 0;
}
