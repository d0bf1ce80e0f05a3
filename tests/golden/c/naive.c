  float *y0 = a->p[0];
  const float *x0 = a->p[1];
  for (int64_t task = begin; task < end; task++) {
    /* out0 */ {
      const int64_t i2 = task % 4;
      const int64_t i1 = task / 4 % 2;
      const int64_t i0 = task / 8;
      float acc = (-INFINITY);
      for (int64_t k0 = 0; k0 < 3; k0++) {
        const int64_t t0 = (((i2 * 2LL) + (-1LL)) + k0);
        const float v = (((t0 >= 0LL) && (t0 < 9LL)) ? x0[(i0) * 18 + (i1) * 9 + (strop_max(strop_min(t0, 8LL), 0LL))] : (-INFINITY));
        acc = strop_max(acc, v);
      }
      const float y = acc;
      y0[i0 * 8 + i1 * 4 + i2] = strop_max(y, 0.0f);
    }
  }
