"""Transposition of a block of VL by VL elements in registers, for kernels that pack a run-time operand."""

from __future__ import annotations


def transpose_helper(lanes: int) -> tuple[str, str]:
    """Name and C text of ``void f(const float *x, int64_t s, float *y, int64_t d, vf scale)``: y[j * d + i] = x[i * s + j] * scale[0]
    for i, j < VL. Rows of neighbouring blocks are swapped at distances 1, 2, 4, ... lanes."""
    rows = range(lanes)
    lines = ["vf " + ", ".join(f"r{i} = vload(x + {i} * s)" for i in rows) + ", t;"]
    step = 1
    while step < lanes:
        low = ", ".join(str(lane if not lane & step else lanes + lane - step) for lane in rows)
        high = ", ".join(str(lane + step if not lane & step else lanes + lane) for lane in rows)
        for i in rows:
            if not i & step:
                a, b = f"r{i}", f"r{i + step}"
                lines.append(f"t = __builtin_shufflevector({a}, {b}, {low});")
                lines.append(f"{b} = __builtin_shufflevector({a}, {b}, {high});")
                lines.append(f"{a} = t;")
        step *= 2
    lines += [f"vstore(y + {i} * d, r{i} * scale);" for i in rows]
    body = "\n".join(f"  {line}" for line in lines)
    name = "transpose_block"
    return name, f"static inline void {name}(const float *x, int64_t s, float *y, int64_t d, vf scale) {{\n{body}\n}}\n"
