typedef uint32_t bits32x4 __attribute__((vector_size(16), aligned(4), may_alias));
static inline void interleave_32_3x4(const uint32_t *x, int64_t x_step, uint32_t *y, int64_t y_step) {
  const bits32x4 v0 = *(const bits32x4 *)(x);
  const bits32x4 v1 = *(const bits32x4 *)(x + 1 * x_step);
  const bits32x4 v2 = *(const bits32x4 *)(x + 2 * x_step);
  const bits32x4 v3 = __builtin_shufflevector(v0, v1, 0, 4, -1, 1);
  const bits32x4 v4 = __builtin_shufflevector(v3, v2, 0, 1, 4, 3);
  *(bits32x4 *)(y) = v4;
  const bits32x4 v5 = __builtin_shufflevector(v0, v1, 5, -1, 2, 6);
  const bits32x4 v6 = __builtin_shufflevector(v5, v2, 0, 5, 2, 3);
  *(bits32x4 *)(y + 4) = v6;
  const bits32x4 v7 = __builtin_shufflevector(v0, v1, -1, 3, 7, -1);
  const bits32x4 v8 = __builtin_shufflevector(v7, v2, 6, 1, 2, 7);
  *(bits32x4 *)(y + 8) = v8;
}
  uint32_t *y = a->p[0];
  const uint32_t *x = a->p[1];
  if (begin < end) {
    uint32_t *to = y;
    const uint32_t *from = x;
    for (int64_t i = 0; i < 1200; i += 4) {
      const int64_t j = 0;
      interleave_32_3x4(from + i + j * 1200, 1200, to + i * 3 + j, 3);
    }
  }
