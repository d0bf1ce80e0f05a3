/* cuda_runtime_api.h - memory, copies, streams and events of CUDA programs, on the processor. Everything is done when a call returns. */
#ifndef STROP_CUDA_RUNTIME_API_H
#define STROP_CUDA_RUNTIME_API_H

#include <cstddef>
#include <stdlib.h>
#include <cstring>

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};

inline cudaError_t cudaMalloc(void **pointer, std::size_t size)
{
    *pointer = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
template <class T> cudaError_t cudaMalloc(T **pointer, std::size_t size) { return cudaMalloc(reinterpret_cast<void **>(pointer), size); }
inline cudaError_t cudaMallocHost(void **pointer, std::size_t size) { return cudaMalloc(pointer, size); }
inline cudaError_t cudaFree(void *pointer)
{
    free(pointer);
    return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void *pointer) { return cudaFree(pointer); }
inline cudaError_t cudaMemcpy(void *to, void const *from, std::size_t size, cudaMemcpyKind)
{
    std::memcpy(to, from, size);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *to, void const *from, std::size_t size, cudaMemcpyKind kind, cudaStream_t = nullptr)
{
    return cudaMemcpy(to, from, size, kind);
}
inline cudaError_t cudaMemset(void *to, int value, std::size_t size)
{
    std::memset(to, value, size);
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    *stream = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }
inline char const *cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "error"; }

#endif /* STROP_CUDA_RUNTIME_API_H */
