/* common.h - the C types of TensorFlow Lite's tensors, for programs that use the interpreter of this folder. */
#ifndef STROP_TENSORFLOW_LITE_C_COMMON_H
#define STROP_TENSORFLOW_LITE_C_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum TfLiteStatus {
    kTfLiteOk = 0,
    kTfLiteError = 1,
    kTfLiteDelegateError = 2,
    kTfLiteApplicationError = 3,
    kTfLiteDelegateDataNotFound = 4,
    kTfLiteDelegateDataWriteError = 5,
    kTfLiteDelegateDataReadError = 6,
    kTfLiteUnresolvedOps = 7,
    kTfLiteCancelled = 8,
    kTfLiteOutputShapeNotKnown = 9
} TfLiteStatus;

typedef enum {
    kTfLiteNoType = 0, kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt64 = 4, kTfLiteString = 5, kTfLiteBool = 6,
    kTfLiteInt16 = 7, kTfLiteComplex64 = 8, kTfLiteInt8 = 9, kTfLiteFloat16 = 10, kTfLiteFloat64 = 11, kTfLiteComplex128 = 12,
    kTfLiteUInt64 = 13, kTfLiteResource = 14, kTfLiteVariant = 15, kTfLiteUInt32 = 16, kTfLiteUInt16 = 17, kTfLiteInt4 = 18, kTfLiteBFloat16 = 19
} TfLiteType;

/* kTfLiteMmapRo: a constant of the model, whose elements the engine keeps in an order of its own: data is NULL. */
typedef enum TfLiteAllocationType {
    kTfLiteMemNone = 0, kTfLiteMmapRo, kTfLiteArenaRw, kTfLiteArenaRwPersistent, kTfLiteDynamic, kTfLitePersistentRo, kTfLiteCustom
} TfLiteAllocationType;

typedef struct TfLiteIntArray {
    int size;
    int data[];
} TfLiteIntArray;

typedef struct TfLiteFloatArray {
    int size;
    float data[];
} TfLiteFloatArray;

typedef struct TfLiteFloat16 { uint16_t data; } TfLiteFloat16;
typedef struct TfLiteBFloat16 { uint16_t data; } TfLiteBFloat16;

/* real = (integer - zero_point) * scale; scale 0 where there is none, or one per channel. */
typedef struct TfLiteQuantizationParams {
    float scale;
    int32_t zero_point;
} TfLiteQuantizationParams;

typedef enum TfLiteQuantizationType { kTfLiteNoQuantization = 0, kTfLiteAffineQuantization = 1 } TfLiteQuantizationType;

typedef struct TfLiteQuantization {
    TfLiteQuantizationType type;
    void *params; /* TfLiteAffineQuantization */
} TfLiteQuantization;

typedef struct TfLiteAffineQuantization {
    TfLiteFloatArray *scale;
    TfLiteIntArray *zero_point;
    int32_t quantized_dimension;
} TfLiteAffineQuantization;

typedef union TfLitePtrUnion {
    int32_t *i32;
    uint32_t *u32;
    int64_t *i64;
    uint64_t *u64;
    float *f;
    TfLiteFloat16 *f16;
    double *f64;
    char *raw;
    const char *raw_const;
    uint8_t *uint8;
    bool *b;
    int16_t *i16;
    uint16_t *ui16;
    int8_t *int8;
    void *data;
} TfLitePtrUnion;

typedef struct TfLiteTensor {
    TfLiteType type;
    TfLitePtrUnion data;
    TfLiteIntArray *dims;
    TfLiteQuantizationParams params;
    TfLiteAllocationType allocation_type;
    size_t bytes;
    const char *name;
    bool is_variable;
    TfLiteQuantization quantization;
    const TfLiteIntArray *dims_signature; /* -1 for what the model leaves open */
} TfLiteTensor;

typedef struct TfLiteNode {
    TfLiteIntArray *inputs, *outputs;
} TfLiteNode;

/* builtin_code is -1: custom_name has the names of builtin operators too. */
typedef struct TfLiteRegistration {
    int32_t builtin_code;
    const char *custom_name;
    int version;
} TfLiteRegistration;

typedef struct TfLiteDelegate TfLiteDelegate;
typedef TfLiteDelegate TfLiteOpaqueDelegate;

static inline TfLiteIntArray *TfLiteIntArrayCreate(int size)
{
    TfLiteIntArray *made = (TfLiteIntArray *)malloc(sizeof(TfLiteIntArray) + sizeof(int) * (size_t)(size > 0 ? size : 0));
    if (made)
        made->size = size;
    return made;
}

static inline void TfLiteIntArrayFree(TfLiteIntArray *array) { free(array); }

static inline int TfLiteIntArrayEqual(const TfLiteIntArray *a, const TfLiteIntArray *b)
{
    return a == b || (a && b && a->size == b->size && !memcmp(a->data, b->data, sizeof(int) * (size_t)a->size));
}

static inline TfLiteIntArray *TfLiteIntArrayCopy(const TfLiteIntArray *from)
{
    TfLiteIntArray *made = from ? TfLiteIntArrayCreate(from->size) : NULL;
    if (made)
        memcpy(made->data, from->data, sizeof(int) * (size_t)from->size);
    return made;
}

static inline const char *TfLiteTypeGetName(TfLiteType type)
{
    static const char *const names[] = {"NOTYPE", "FLOAT32", "INT32", "UINT8", "INT64", "STRING", "BOOL", "INT16", "COMPLEX64", "INT8", "FLOAT16",
                                        "FLOAT64", "COMPLEX128", "UINT64", "RESOURCE", "VARIANT", "UINT32", "UINT16", "INT4", "BFLOAT16"};
    return (unsigned)type < sizeof names / sizeof *names ? names[type] : "Unknown type";
}

#ifdef __cplusplus
}
#endif

#endif /* STROP_TENSORFLOW_LITE_C_COMMON_H */
