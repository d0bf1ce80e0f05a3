  float *y = a->p[0];
  const float *x = a->p[1];
  const int32_t *rows = a->p[2];
  const float *row_weights = a->p[3];
  const int32_t *columns = a->p[4];
  const float *column_weights = a->p[5];
  const int64_t last = end * 8 < 8 ? end * 8 : 8;
  for (int64_t row = begin * 8; row < last; row++) {
    const int64_t o1 = row % 8;
    const int64_t o0 = row / 8;
    float *y_row = y + o0 * 480 + o1 * 60;
    const float *x_row = x + o0 * 120;
    const int32_t *r = rows + o1 * 2;
    const float *r_weight = row_weights + o1 * 2;
    for (int64_t o = 0; o < 10; o++) {
      const int32_t *q = columns + o * 2;
      const float *q_weight = column_weights + o * 2;
      for (int64_t c = 0; c < 4; c += 4) {
        vf s0 = vzero();
        for (int64_t t = 0; t < 2; t++) {
          const int64_t line = (int64_t)r[t] * 30;
          {
            const vf f = vset1(r_weight[t] * q_weight[0]);
            s0 = vfma(f, vload(x_row + c + (int64_t)q[0] * 6 + line), s0);
          }
          {
            const vf f = vset1(r_weight[t] * q_weight[1]);
            s0 = vfma(f, vload(x_row + c + (int64_t)q[1] * 6 + line), s0);
          }
        }
        {
          vstore(y_row + o * 6 + c, s0);
        }
      }
      {
        const int64_t c = 4;
        vf s0 = vzero();
        for (int64_t t = 0; t < 2; t++) {
          const int64_t line = (int64_t)r[t] * 30;
          {
            const vf f = vset1(r_weight[t] * q_weight[0]);
            s0 = vfma(f, vload_n(x_row + c + (int64_t)q[0] * 6 + line, 2), s0);
          }
          {
            const vf f = vset1(r_weight[t] * q_weight[1]);
            s0 = vfma(f, vload_n(x_row + c + (int64_t)q[1] * 6 + line, 2), s0);
          }
        }
        {
          vstore_n(y_row + o * 6 + c, s0, 2);
        }
      }
    }
  }

  float *y = a->p[0];
  const float *x = a->p[1];
  const int32_t *rows = a->p[2];
  const float *row_weights = a->p[3];
  const int32_t *columns = a->p[4];
  const float *column_weights = a->p[5];
  float *folded = a->scratch;
  const int64_t last = end * 8 < 8 ? end * 8 : 8;
  for (int64_t row = begin * 8; row < last; row++) {
    const int64_t o1 = row % 8;
    const int64_t o0 = row / 8;
    float *y_row = y + o0 * 480 + o1 * 60;
    const float *x_row = x + o0 * 120;
    const int32_t *r = rows + o1 * 2;
    const float *r_weight = row_weights + o1 * 2;
    for (int64_t c = 0; c < 4; c += 4) {
      for (int64_t i = 0; i < 5; i++) {
        vf s0 = vzero();
        {
          const vf f = vset1(r_weight[0]);
          s0 = vfma(f, vload(x_row + c + i * 6 + (int64_t)r[0] * 30), s0);
        }
        {
          const vf f = vset1(r_weight[1]);
          s0 = vfma(f, vload(x_row + c + i * 6 + (int64_t)r[1] * 30), s0);
        }
        vstore(folded + i * 4 + 0, s0);
      }
      for (int64_t o = 0; o < 10; o++) {
        const int32_t *q = columns + o * 2;
        const float *q_weight = column_weights + o * 2;
        vf s0 = vzero();
        {
          const vf f = vset1(q_weight[0]);
          s0 = vfma(f, vload(folded + q[0] * 4), s0);
        }
        {
          const vf f = vset1(q_weight[1]);
          s0 = vfma(f, vload(folded + q[1] * 4), s0);
        }
        {
          vstore(y_row + o * 6 + c, s0);
        }
      }
    }
    {
      const int64_t c = 4;
      for (int64_t i = 0; i < 5; i++) {
        vf s0 = vzero();
        {
          const vf f = vset1(r_weight[0]);
          s0 = vfma(f, vload_n(x_row + c + i * 6 + (int64_t)r[0] * 30, 2), s0);
        }
        {
          const vf f = vset1(r_weight[1]);
          s0 = vfma(f, vload_n(x_row + c + i * 6 + (int64_t)r[1] * 30, 2), s0);
        }
        vstore(folded + i * 4 + 0, s0);
      }
      for (int64_t o = 0; o < 10; o++) {
        const int32_t *q = columns + o * 2;
        const float *q_weight = column_weights + o * 2;
        vf s0 = vzero();
        {
          const vf f = vset1(q_weight[0]);
          s0 = vfma(f, vload(folded + q[0] * 4), s0);
        }
        {
          const vf f = vset1(q_weight[1]);
          s0 = vfma(f, vload(folded + q[1] * 4), s0);
        }
        {
          vstore_n(y_row + o * 6 + c, s0, 2);
        }
      }
    }
  }
