  float *y = a->p[0];
  const float *x = a->p[1];
  for (int64_t row = begin; row < end; row++) {
    float *y_row = y;
    const float *x_row = x;
    vf s0_0 = vzero(), s1_0 = vzero(), s0_1 = vzero(), s1_1 = vzero(), s0_2 = vzero(), s1_2 = vzero(), s0_3 = vzero(), s1_3 = vzero();
    {
      int64_t r = 0;
      for (; r + 4 <= 49; r += 4) {
        s0_0 = s0_0 + vload(x_row + r * 6);
        s1_0 = s1_0 + vload_n(x_row + r * 6 + 4, 2);
        s0_1 = s0_1 + vload(x_row + (r + 1) * 6);
        s1_1 = s1_1 + vload_n(x_row + (r + 1) * 6 + 4, 2);
        s0_2 = s0_2 + vload(x_row + (r + 2) * 6);
        s1_2 = s1_2 + vload_n(x_row + (r + 2) * 6 + 4, 2);
        s0_3 = s0_3 + vload(x_row + (r + 3) * 6);
        s1_3 = s1_3 + vload_n(x_row + (r + 3) * 6 + 4, 2);
      }
      for (; r < 49; r++) {
        s0_0 = s0_0 + vload(x_row + r * 6);
        s1_0 = s1_0 + vload_n(x_row + r * 6 + 4, 2);
      }
    }
    {
      const vf v = (((s0_0 + s0_1) + (s0_2 + s0_3)) / vset1(49.0f));
      vstore(y_row, v);
    }
    {
      const vf v = (((s1_0 + s1_1) + (s1_2 + s1_3)) / vset1(49.0f));
      vstore_n(y_row + 4, v, 2);
    }
  }
