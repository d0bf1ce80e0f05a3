  uint32_t *y = a->p[0];
  const uint32_t *x = a->p[1];
  const int64_t *picks = a->p[2];
  if (begin < end) {
    for (int64_t i0 = 0; i0 < 7; i0++) {
      uint32_t *to = y + i0 * 40;
      const uint32_t *from = x;
      int64_t at = *(picks + i0);
      at += at < 0 ? 30 : 0;
      at = at < 0 ? 0 : at < 30 ? at : 29;
      from += at * 40;
      __builtin_memcpy_inline(to, from, 160);
    }
  }

  uint32_t *y = a->p[0];
  const uint32_t *x = a->p[1];
  const int64_t *picks = a->p[2];
  if (begin < end) {
    for (int64_t i0 = 0; i0 < 30; i0++) {
      uint32_t *to = y + i0 * 7;
      const uint32_t *from = x + i0 * 6;
      const int64_t *pick = picks;
      for (int64_t j = 0; j < 7; j++) {
        int64_t at = pick[j];
        at += at < 0 ? 6 : 0;
        at = at < 0 ? 0 : at < 6 ? at : 5;
        to[j] = from[at];
      }
    }
  }
