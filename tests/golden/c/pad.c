  uint32_t *y = a->p[0];
  const uint32_t *x = a->p[1];
  if (begin < end) {
    for (int64_t i0 = 0; i0 < 4; i0++) {
      for (int64_t i1 = 0; i1 < 5; i1++) {
        uint32_t *to = y + i0 * 260 + i1 * 52;
        int64_t s1 = i1 - 1;
        if (s1 < 0 || s1 >= 3) {
          for (int64_t j = 0; j < 52; j++) {
            to[j] = 1069547520u;
          }
        }
        else {
          const uint32_t *from = x + i0 * 150 + s1 * 50;
          for (int64_t j = 0; j < 2; j++) {
            to[j] = 1069547520u;
          }
          __builtin_memcpy_inline(to + 2, from, 200);
        }
      }
    }
  }

  uint32_t *y = a->p[0];
  const uint32_t *x = a->p[1];
  if (begin < end) {
    for (int64_t i0 = 0; i0 < 2; i0++) {
      uint32_t *to = y + i0 * 440;
      const uint32_t *from = x + i0 * 300;
      for (int64_t j = 0; j < 70; j++) {
        const int64_t at = 70 - j;
        to[j] = from[at];
      }
      memcpy(to + 70, from, 1200);
      for (int64_t j = 370; j < 440; j++) {
        const int64_t at = 668 - j;
        to[j] = from[at];
      }
    }
  }
