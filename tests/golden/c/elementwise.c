  float *y = a->p[0];
  const float *x0 = a->p[1];
  const float *x1 = a->p[2];
  if (begin < end) {
    for (int64_t i0 = 0; i0 < 36; i0++) {
      float *y_row = y + i0 * 20;
      const float *x0_row = x0 + i0 * 20;
      const float *x1_row = x1;
      int64_t j = 0;
      for (; j + VL <= 20; j += VL) {
        const vf t0_0 = vload(x0_row + j);
        const vf t0_1 = vload(x1_row + j);
        vstore(y_row + j, vfma(t0_0, vmin_c(vmax_c(vfma(t0_0, vset1(0.16666667f), vset1(0.5f)), vzero()), vset1(1.0f)), t0_1));
      }
      if (j < 20) {
        const vf t0 = vload_n(x0_row + j, 20 - j);
        const vf t1 = vload_n(x1_row + j, 20 - j);
        vstore_n(y_row + j, vfma(t0, vmin_c(vmax_c(vfma(t0, vset1(0.16666667f), vset1(0.5f)), vzero()), vset1(1.0f)), t1), 20 - j);
      }
    }
  }
