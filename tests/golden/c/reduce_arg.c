  int64_t *y = a->p[0];
  const float *x = a->p[1];
  const int64_t last = end * 3 < 3 ? end * 3 : 3;
  for (int64_t row = begin * 3; row < last; row++) {
    int64_t *y_row = y + row;
    const float *x_row = x + row * 10;
    float best = x_row[0];
    int64_t where = 0;
    vf best0 = vload(x_row);
    vi where0 = viota() + 0;
    for (int64_t j = 4; j < 8; j += 4) {
      {
        const vf x = vload(x_row + j);
        const vi better = (x > best0) | ((x != x) & (best0 == best0));
        best0 = vselect(better, x, best0);
        where0 = vselect_i(better, viota() + (int32_t)(j), where0);
      }
    }
    best = best0[0];
    where = where0[0];
    for (int64_t k = 1; k < VL; k++) {
      const float x = best0[k];
      const int64_t at = where0[k];
      const bool same = x == best || (x != x && best != best), nearer = at < where;
      if (same ? nearer : (x > best || x != x)) {
        best = x;
        where = at;
      }
    }
    for (int64_t j = 8; j < 10; j++) {
      const float x = x_row[j];
      if ((x > best) || ((x != x) && (best == best))) {
        best = x;
        where = j;
      }
    }
    *y_row = where;
  }
