  float *y = a->p[0];
  const float *x = a->p[1];
  const float *share0 = a->p[2];
  const float *share1 = a->p[3];
  const int64_t last = end * 4 < 4 ? end * 4 : 4;
  for (int64_t row = begin * 4; row < last; row++) {
    const int64_t o1 = row % 4;
    const int64_t o0 = row / 4;
    float *y_row = y + o0 * 160 + o1 * 40;
    const float *x_row = x + o0 * 640;
    const int64_t h0 = o1 * 2 - 1;
    const int64_t s0_from = h0 < 0 ? -h0 : 0;
    const int64_t s0_to = h0 + 2 < 8 ? 3 : 8 - h0;
    const float share = 1.0f * share0[o1];
    for (int64_t o = 0; o < 4; o++) {
      const int64_t left = o * 2 - 1;
      const int64_t k_from = left < 0 ? -left : 0;
      const int64_t k_to = left + 2 < 8 ? 3 : 8 - left;
      {
        const int64_t c = 0;
        vf m0 = vzero(), m1 = vzero();
        for (int64_t t0 = s0_from; t0 < s0_to; t0++) {
          const float *at = x_row + (h0 + t0) * 80 + c + left * 10;
          if (k_to - k_from == 3) {
            m0 = m0 + vload(at);
            m1 = m1 + vload(at + 4);
            m0 = m0 + vload(at + 10);
            m1 = m1 + vload(at + 10 + 4);
            m0 = m0 + vload(at + 20);
            m1 = m1 + vload(at + 20 + 4);
          }
          else {
            for (int64_t k = k_from; k < k_to; k++) {
              m0 = m0 + vload(at + k * 10);
              m1 = m1 + vload(at + k * 10 + 4);
            }
          }
        }
        const vf scale = vset1(share * share1[o]);
        {
          const vf v = m0 * scale;
          vstore(y_row + o * 10 + c, v);
        }
        {
          const vf v = m1 * scale;
          vstore(y_row + o * 10 + c + 4, v);
        }
      }
      {
        const int64_t c = 8;
        vf m0 = vzero();
        for (int64_t t0 = s0_from; t0 < s0_to; t0++) {
          const float *at = x_row + (h0 + t0) * 80 + c + left * 10;
          if (k_to - k_from == 3) {
            m0 = m0 + vload_n(at, 2);
            m0 = m0 + vload_n(at + 10, 2);
            m0 = m0 + vload_n(at + 20, 2);
          }
          else {
            for (int64_t k = k_from; k < k_to; k++) {
              m0 = m0 + vload_n(at + k * 10, 2);
            }
          }
        }
        const vf scale = vset1(share * share1[o]);
        {
          const vf v = m0 * scale;
          vstore_n(y_row + o * 10 + c, v, 2);
        }
      }
    }
  }

  float *y = a->p[0];
  const float *x = a->p[1];
  const float *share0 = a->p[2];
  const float *share1 = a->p[3];
  float *folded = a->scratch;
  const int64_t last = end * 4 < 4 ? end * 4 : 4;
  for (int64_t row = begin * 4; row < last; row++) {
    const int64_t o1 = row % 4;
    const int64_t o0 = row / 4;
    float *y_row = y + o0 * 160 + o1 * 40;
    const float *x_row = x + o0 * 640;
    const int64_t h0 = o1 * 2 - 1;
    const int64_t s0_from = h0 < 0 ? -h0 : 0;
    const int64_t s0_to = h0 + 2 < 8 ? 3 : 8 - h0;
    const float share = 1.0f * share0[o1];
    {
      const int64_t c = 0;
      for (int64_t i = 0; i < 8; i++) {
        vf m0 = vzero(), m1 = vzero();
        for (int64_t t0 = s0_from; t0 < s0_to; t0++) {
          m0 = m0 + vload(x_row + (h0 + t0) * 80 + c + i * 10);
          m1 = m1 + vload(x_row + (h0 + t0) * 80 + c + i * 10 + 4);
        }
        vstore(folded + i * 8 + 0, m0);
        vstore(folded + i * 8 + 4, m1);
      }
      for (int64_t o = 0; o < 4; o++) {
        const int64_t left = o * 2 - 1;
        const int64_t k_from = left < 0 ? -left : 0;
        const int64_t k_to = left + 2 < 8 ? 3 : 8 - left;
        vf m0 = vzero(), m1 = vzero();
        const float *at = folded + left * 8;
        if (k_to - k_from == 3) {
          m0 = m0 + vload(at);
          m1 = m1 + vload(at + 4);
          m0 = m0 + vload(at + 8);
          m1 = m1 + vload(at + 8 + 4);
          m0 = m0 + vload(at + 16);
          m1 = m1 + vload(at + 16 + 4);
        }
        else {
          for (int64_t k = k_from; k < k_to; k++) {
            m0 = m0 + vload(at + k * 8);
            m1 = m1 + vload(at + k * 8 + 4);
          }
        }
        const vf scale = vset1(share * share1[o]);
        {
          const vf v = m0 * scale;
          vstore(y_row + o * 10 + c, v);
        }
        {
          const vf v = m1 * scale;
          vstore(y_row + o * 10 + c + 4, v);
        }
      }
    }
    {
      const int64_t c = 8;
      for (int64_t i = 0; i < 8; i++) {
        vf m0 = vzero();
        for (int64_t t0 = s0_from; t0 < s0_to; t0++) {
          m0 = m0 + vload_n(x_row + (h0 + t0) * 80 + c + i * 10, 2);
        }
        vstore(folded + i * 8 + 0, m0);
      }
      for (int64_t o = 0; o < 4; o++) {
        const int64_t left = o * 2 - 1;
        const int64_t k_from = left < 0 ? -left : 0;
        const int64_t k_to = left + 2 < 8 ? 3 : 8 - left;
        vf m0 = vzero();
        const float *at = folded + left * 8;
        if (k_to - k_from == 3) {
          m0 = m0 + vload(at);
          m0 = m0 + vload(at + 8);
          m0 = m0 + vload(at + 16);
        }
        else {
          for (int64_t k = k_from; k < k_to; k++) {
            m0 = m0 + vload(at + k * 8);
          }
        }
        const vf scale = vset1(share * share1[o]);
        {
          const vf v = m0 * scale;
          vstore_n(y_row + o * 10 + c, v, 2);
        }
      }
    }
  }
