/* sums of neighbouring lanes: those of a, then those of b */
static inline vf pair_sums_4(vf a, vf b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}

/* 2 positions by 2 output channels, 45 products each */
static void dots_2x2_3414879b(const float *x, const float *w, float *y, const float *e0, const float *e1) {
  vf c0_0 = vzero(), c0_1 = vzero(), c1_0 = vzero(), c1_1 = vzero();
  for (int64_t kh = 0; kh < 3; kh++) {
    const float *xk = x + kh * 55;
    for (int64_t k = 0; k < 12; k += 1 * VL) {
      {
        const vf v0 = vload(xk + k);
        const vf v1 = vload(xk + 5 + k);
        const vf w0 = vload(w);
        c0_0 = vfma(v0, w0, c0_0);
        c1_0 = vfma(v1, w0, c1_0);
        const vf w1 = vload(w + 1 * VL);
        c0_1 = vfma(v0, w1, c0_1);
        c1_1 = vfma(v1, w1, c1_1);
        w += 2 * VL;
      }
    }
    {
      const vf v0 = vload_n(xk + 12, 3);
      const vf v1 = vload_n(xk + 5 + 12, 3);
      const vf w0 = vload(w);
      c0_0 = vfma(v0, w0, c0_0);
      c1_0 = vfma(v1, w0, c1_0);
      const vf w1 = vload(w + 1 * VL);
      c0_1 = vfma(v0, w1, c0_1);
      c1_1 = vfma(v1, w1, c1_1);
      w += 2 * VL;
    }
  }
  const vf s0 = pair_sums_4(c0_0, c0_1);
  const vf s1 = pair_sums_4(c1_0, c1_1);
  const vf s2 = pair_sums_4(s0, s1);
  float dots[VL];
  vstore(dots, s2);
  {
    const vf dot = vload_n(dots + 0, 2);
    const vf t0 = vload_n(e0, 2);
    const vf t1 = vload_n(e1, 2);
    vstore_n(y, vmax_c(((dot + t0) + t1), vzero()), 2);
  }
  {
    const vf dot = vload_n(dots + 2, 2);
    const vf t0 = vload_n(e0, 2);
    const vf t1 = vload_n(e1 + 2, 2);
    vstore_n(y + 2, vmax_c(((dot + t0) + t1), vzero()), 2);
  }
}

/* 1 positions by 2 output channels, 45 products each */
static void dots_1x2_f1cc7f91(const float *x, const float *w, float *y, const float *e0, const float *e1) {
  vf c0_0 = vzero(), c0_1 = vzero();
  for (int64_t kh = 0; kh < 3; kh++) {
    const float *xk = x + kh * 55;
    for (int64_t k = 0; k < 12; k += 1 * VL) {
      {
        const vf v0 = vload(xk + k);
        const vf w0 = vload(w);
        c0_0 = vfma(v0, w0, c0_0);
        const vf w1 = vload(w + 1 * VL);
        c0_1 = vfma(v0, w1, c0_1);
        w += 2 * VL;
      }
    }
    {
      const vf v0 = vload_n(xk + 12, 3);
      const vf w0 = vload(w);
      c0_0 = vfma(v0, w0, c0_0);
      const vf w1 = vload(w + 1 * VL);
      c0_1 = vfma(v0, w1, c0_1);
      w += 2 * VL;
    }
  }
  const vf s0 = pair_sums_4(c0_0, c0_1);
  const vf s1 = pair_sums_4(s0, s0);
  float dots[VL];
  vstore(dots, s1);
  {
    const vf dot = vload_n(dots + 0, 2);
    const vf t0 = vload_n(e0, 2);
    const vf t1 = vload_n(e1, 2);
    vstore_n(y, vmax_c(((dot + t0) + t1), vzero()), 2);
  }
}

  const float *x = a->p[0];
  const float *weights = a->p[1];
  float *y = a->p[2];
  const float *e0 = a->p[3];
  const float *e1 = a->p[4];
  for (int64_t task = begin; task < end; task++) {
    const int64_t from = 0, to = 6;
    const float *xn = x;
    float *xs = a->scratch;
    const int64_t in_from = from * 1 - 1;
    const int64_t in_rows = (to - from - 1) * 1 + 3;
    {
      for (int64_t r = 0; r < in_rows; r++) {
        float *to_row = xs + r * 55;
        const int64_t ih = in_from + r;
        if (ih < 0 || ih >= 6) {
          memset(to_row, 0, 55 * sizeof(float));
          continue;
        }
        const float *from_row = xn + ih * 45;
        memset(to_row, 0, 5 * sizeof(float));
        memcpy(to_row + 5, from_row, 45 * sizeof(float));
        memset(to_row + 50, 0, 5 * sizeof(float));
      }
    }
    const float *wp = weights;
    for (int64_t h = from; h < to; h++) {
      for (int64_t p = 0; p < 8; p += 2) {
        dots_2x2_3414879b(xs + (h - from) * 55 + p * 5, wp, y + h * 18 + p * 2, e0, e1 + h * 18 + p * 2);
      }
      dots_1x2_f1cc7f91(xs + (h - from) * 55 + 8 * 5, wp, y + h * 18 + 8 * 2, e0, e1 + h * 18 + 8 * 2);
    }
  }
