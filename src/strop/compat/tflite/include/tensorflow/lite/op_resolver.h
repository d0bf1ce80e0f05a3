/* op_resolver.h - resolvers of ops. Engines have their own kernels: a resolver is asked for nothing. */
#ifndef STROP_TENSORFLOW_LITE_OP_RESOLVER_H
#define STROP_TENSORFLOW_LITE_OP_RESOLVER_H

#include <string>
#include <vector>

#include "tensorflow/lite/c/common.h"

namespace tflite {

class OpResolver {
public:
    virtual ~OpResolver() = default;
};

/* Custom ops are declared where the model is compiled, with strop.custom.layer("tflite::NAME"); what is added here is only noted. */
class MutableOpResolver : public OpResolver {
public:
    void AddBuiltin(int, const TfLiteRegistration *, int = 1) {}
    void AddBuiltin(int, const TfLiteRegistration *, int, int) {}
    void AddCustom(const char *name, const TfLiteRegistration *, int = 1) { customs_.emplace_back(name); }
    void AddCustom(const char *name, const TfLiteRegistration *, int, int) { customs_.emplace_back(name); }
    void AddAll(const MutableOpResolver &other) { customs_.insert(customs_.end(), other.customs_.begin(), other.customs_.end()); }
    const std::vector<std::string> &customs() const { return customs_; }

private:
    std::vector<std::string> customs_;
};

} // namespace tflite

#endif /* STROP_TENSORFLOW_LITE_OP_RESOLVER_H */
