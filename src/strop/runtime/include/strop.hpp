/*
 * strop.hpp - strop.h for C++17: handles that clean up after themselves, failures as exceptions.
 *
 *     strop::Engine engine("net.strop");
 *     strop::Context context(engine, 2);
 *     context.bind_input(0, x.data(), x.size());
 *     context.bind_output(0, y.data(), y.size());
 *     context.run();
 *
 * Header only; link with the runtime library. Classes move and do not copy.
 */
#ifndef STROP_HPP
#define STROP_HPP

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "strop.h"

namespace strop {

/* A failure; code() is one of enum strop_code. */
class Error : public std::runtime_error {
public:
    Error(int code, const std::string &message) : std::runtime_error(message), code_(code) {}
    int code() const noexcept { return code_; }

private:
    int code_;
};

/* An input or output. */
struct Tensor {
    std::string name;
    strop_dtype dtype;
    std::vector<std::int64_t> shape; /* row-major; of a free shape, the one the engine was tuned for */
    std::uint64_t bytes;
    std::vector<std::int64_t> least, most, step; /* the range of a free shape, as in strop_tensor_info */
    bool is_computed = false; /* a context's outputs() tell the shape after a run, and in `bytes` the room to bind */
};

struct Step {
    std::string name;
    std::uint32_t kernel;
    std::int64_t tasks, grain;
};

namespace detail {

inline void check(int code, const strop_error &error)
{
    if (code != STROP_OK)
        throw Error(code, error.message);
}

inline Tensor tensor(const strop_tensor_info &info)
{
    const std::uint32_t n = info.rank;

    return Tensor{info.name, static_cast<strop_dtype>(info.dtype), {info.dims, info.dims + n}, info.bytes,
                  {info.least, info.least + n}, {info.most, info.most + n}, {info.step, info.step + n}, info.is_computed != 0};
}

/* enum strop_dtype of a C++ element type, or 0. */
template <typename T> constexpr std::uint32_t dtype_of()
{
    using U = std::remove_cv_t<T>;
    constexpr bool is_signed = std::is_signed_v<U>;

    if constexpr (std::is_same_v<U, float>)
        return STROP_F32;
    else if constexpr (std::is_same_v<U, double>)
        return STROP_F64;
    else if constexpr (std::is_same_v<U, bool>)
        return STROP_BOOL;
    else if constexpr (!std::is_integral_v<U>)
        return 0;
    else if constexpr (sizeof(U) == 1)
        return is_signed ? STROP_I8 : STROP_U8;
    else if constexpr (sizeof(U) == 2)
        return is_signed ? STROP_I16 : STROP_U16;
    else if constexpr (sizeof(U) == 4)
        return is_signed ? STROP_I32 : STROP_U32;
    else
        return is_signed ? STROP_I64 : STROP_U64;
}

struct DestroyEngine {
    void operator()(strop_engine *engine) const noexcept { strop_engine_destroy(engine); }
};

struct DestroyContext {
    void operator()(strop_context *context) const noexcept { strop_context_destroy(context); }
};

} // namespace detail

/* A loaded engine. May be used from any number of threads. */
class Engine {
public:
    explicit Engine(const std::string &path)
    {
        strop_engine *engine = nullptr;
        strop_error error;

        detail::check(strop_engine_load(path.c_str(), &engine, &error), error);
        handle_.reset(engine);
    }

    /* 64-byte aligned memory is used in place and must outlive the engine and its contexts. */
    Engine(const void *data, std::size_t size)
    {
        strop_engine *engine = nullptr;
        strop_error error;

        detail::check(strop_engine_load_memory(data, size, &engine, &error), error);
        handle_.reset(engine);
    }

    std::vector<Tensor> inputs() const
    {
        return tensors(strop_engine_input_count(get()), strop_engine_input_info);
    }

    std::vector<Tensor> outputs() const
    {
        return tensors(strop_engine_output_count(get()), strop_engine_output_info);
    }

    std::vector<Step> steps() const
    {
        std::vector<Step> result(strop_engine_step_count(get()));
        strop_step_info info;
        strop_error error;

        for (std::uint32_t i = 0; i < result.size(); i++) {
            detail::check(strop_engine_step_info(get(), i, &info, &error), error);
            result[i] = Step{info.name, info.kernel, info.tasks, info.grain};
        }
        return result;
    }

    /* Both live as long as the engine. */
    std::string_view manifest() const { return text(strop_engine_manifest); }
    std::string_view graph() const { return text(strop_engine_graph); }

    std::string target() const { return strop_engine_target(get()); }
    std::string isa() const { return strop_engine_isa(get()); }

    strop_memory_info memory() const
    {
        strop_memory_info info;

        strop_engine_memory(get(), &info);
        return info;
    }

    strop_engine *get() const noexcept { return handle_.get(); }

private:
    using Query = int (*)(const strop_engine *, std::uint32_t, strop_tensor_info *, strop_error *);

    std::vector<Tensor> tensors(std::uint32_t count, Query query) const
    {
        std::vector<Tensor> result(count);
        strop_tensor_info info;
        strop_error error;

        for (std::uint32_t i = 0; i < count; i++) {
            detail::check(query(get(), i, &info, &error), error);
            result[i] = detail::tensor(info);
        }
        return result;
    }

    std::string_view text(const char *(*function)(const strop_engine *, std::size_t *)) const
    {
        std::size_t size = 0;
        const char *data = function(get(), &size);

        return {data ? data : "", size};
    }

    std::unique_ptr<strop_engine, detail::DestroyEngine> handle_;
};

/* Memory and threads to run an engine with; one thread may use it at a time. It keeps what it
 * needs of the engine. */
class Context {
public:
    /* `threads` of 0: one per processor that this process may use. */
    explicit Context(const Engine &engine, std::int32_t threads = 1)
        : steps_(strop_engine_step_count(engine.get())), inputs_(engine.inputs()),
          outputs_(engine.outputs())
    {
        strop_context *context = nullptr;
        strop_error error;

        detail::check(strop_context_create(engine.get(), threads, &context, &error), error);
        handle_.reset(context);
    }

    /* Makes the context run at another shape: one list of dims per input. Tensors of a free shape must be bound anew
     * unless nothing has changed. Throws Error with STROP_ERR_SHAPE for a shape that the engine does not serve. */
    void resize(const std::vector<std::vector<std::int64_t>> &shapes)
    {
        std::vector<const std::int64_t *> dims;
        strop_error error;

        if (shapes.size() != inputs_.size())
            throw Error(STROP_ERR_ARGUMENT, "resize: not one shape per input");
        for (std::size_t i = 0; i < shapes.size(); i++) {
            if (shapes[i].size() != inputs_[i].shape.size())
                throw Error(STROP_ERR_SHAPE, "resize: '" + inputs_[i].name + "' has another rank");
            dims.push_back(shapes[i].data());
        }
        detail::check(strop_context_resize(get(), dims.data(), &error), error);
    }

    /* Inputs and outputs at the context's shape. */
    std::vector<Tensor> inputs() { return tensors(inputs_.size(), strop_context_input_info); }
    std::vector<Tensor> outputs() { return tensors(outputs_.size(), strop_context_output_info); }

    /* `count` elements of T, or with T = void or std::byte as many bytes. The memory is used in
     * place by every later run. */
    template <typename T> void bind_input(std::uint32_t index, const T *data, std::size_t count)
    {
        strop_error error;

        check_dtype<T>(inputs_, index);
        detail::check(strop_context_bind_input(get(), index, data, count * size<T>(), &error),
                      error);
    }

    template <typename T> void bind_output(std::uint32_t index, T *data, std::size_t count)
    {
        strop_error error;

        check_dtype<T>(outputs_, index);
        detail::check(strop_context_bind_output(get(), index, data, count * size<T>(), &error),
                      error);
    }

    void run()
    {
        strop_error error;

        detail::check(strop_context_run(get(), &error), error);
    }

    /* For every step, the least nanoseconds of `runs` runs. */
    std::vector<std::uint64_t> profile(std::uint32_t runs)
    {
        std::vector<std::uint64_t> times(steps_);
        std::uint64_t none = 0;
        strop_error error;

        detail::check(strop_context_profile(get(), runs, steps_ ? times.data() : &none, steps_,
                                            &error),
                      error);
        return times;
    }

    std::int32_t threads() const { return strop_context_threads(get()); }

    strop_memory_info memory() const
    {
        strop_memory_info info;

        strop_context_memory(get(), &info);
        return info;
    }

    strop_context *get() const noexcept { return handle_.get(); }

private:
    using Query = int (*)(strop_context *, std::uint32_t, strop_tensor_info *, strop_error *);

    std::vector<Tensor> tensors(std::size_t count, Query query)
    {
        std::vector<Tensor> result;
        strop_tensor_info info;
        strop_error error;

        for (std::uint32_t i = 0; i < count; i++) {
            detail::check(query(get(), i, &info, &error), error);
            result.push_back(detail::tensor(info));
        }
        return result;
    }

    template <typename T> static constexpr std::size_t size()
    {
        if constexpr (std::is_void_v<T>)
            return 1;
        else
            return sizeof(T);
    }

    /* Element types that C++ has must be the tensor's; others are passed as bytes. */
    template <typename T>
    static void check_dtype(const std::vector<Tensor> &tensors, std::uint32_t index)
    {
        constexpr std::uint32_t dtype = detail::dtype_of<T>();

        if (dtype != 0 && index < tensors.size() && tensors[index].dtype != dtype)
            throw Error(STROP_ERR_ARGUMENT, "'" + tensors[index].name + "' has dtype number " +
                                                std::to_string(tensors[index].dtype) +
                                                ", the data has " + std::to_string(dtype));
    }

    std::unique_ptr<strop_context, detail::DestroyContext> handle_;
    std::uint32_t steps_;
    std::vector<Tensor> inputs_, outputs_;
};

} // namespace strop

#endif /* STROP_HPP */
