"""Products of small constant matrices with vectors as C over the instruction names of ``strop.target.isa``.

Rows that differ by the sign of some entries share the sums of the others, e.g. those of the points p and -p in a data transform; columns
that do, e.g. those of p and -p in an output transform, are added and subtracted first.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Row = Sequence[Fraction]


def transform_c(matrix: Sequence[Row], inputs: Sequence[str], outputs: Sequence[str], prefix: str) -> list[str]:
    """C statements ``outputs = matrix inputs`` on vectors.

    Args:
        matrix: [len(outputs)][len(inputs)].
        inputs: C names of vectors.
        outputs: C lvalues.
        prefix: of the variables made.
    """
    lines: list[str] = []
    rows, names = [list(row) for row in matrix], list(inputs)
    for a, b in _column_pairs(rows):
        total, difference = f"{prefix}p{a}", f"{prefix}m{a}"
        lines.append(f"const vf {total} = {names[a]} + {names[b]};")
        lines.append(f"const vf {difference} = {names[a]} - {names[b]};")
        names[a], names[b] = total, difference
        for row in rows:
            same = row[a] == row[b]
            row[a], row[b] = (row[a], Fraction(0)) if same else (Fraction(0), row[a])
    done: set[int] = set()
    for i, row in enumerate(rows):
        if i in done:
            continue
        partner = next((j for j in range(i + 1, len(rows)) if j not in done and _mirrored(row, rows[j])), None)
        if partner is None:
            lines.append(f"{outputs[i]} = {_combine(row, names)};")
            continue
        same_part = [x if x == y else Fraction(0) for x, y in zip(row, rows[partner], strict=True)]
        rest = [x if x != y else Fraction(0) for x, y in zip(row, rows[partner], strict=True)]
        lines.append(f"const vf {prefix}e{i} = {_combine(same_part, names)};")
        lines.append(f"const vf {prefix}o{i} = {_combine(rest, names)};")
        lines.append(f"{outputs[i]} = {prefix}e{i} + {prefix}o{i};")
        lines.append(f"{outputs[partner]} = {prefix}e{i} - {prefix}o{i};")
        done.add(partner)
    return lines


def operations(matrix: Sequence[Row]) -> int:
    """Vector additions, multiplications and multiply-adds that ``transform_c`` makes of a matrix."""
    names = [f"i{k}" for k in range(len(matrix[0]))]
    lines = transform_c(matrix, names, [f"r{k}" for k in range(len(matrix))], "t")
    return sum(line.count(sign) for line in lines for sign in (" + ", " - ", " * ", "vfma("))


def _column_pairs(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Columns that differ by signs, of which at least three rows use the sum or the difference."""
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    columns = list(zip(*rows, strict=True))
    for a, first in enumerate(columns):
        for b in range(a + 1, len(columns)):
            if a not in taken and b not in taken and _mirrored(first, columns[b]) and sum(v != 0 for v in first) > 2:
                pairs.append((a, b))
                taken |= {a, b}
    return pairs


def _mirrored(a: Row, b: Row) -> bool:
    """True when the rows agree up to the sign of some entries, at least one agreeing and one differing."""
    if [abs(x) for x in a] != [abs(x) for x in b]:
        return False
    return any(x == y != 0 for x, y in zip(a, b, strict=True)) and any(x != y for x, y in zip(a, b, strict=True))


def _combine(row: Row, inputs: Sequence[str]) -> str:
    """Sum of coefficient times input, units first, the rest as multiply-adds."""
    terms = [(c, x) for c, x in zip(row, inputs, strict=True) if c != 0]
    if not terms:
        return "vzero()"
    terms.sort(key=lambda t: (abs(t[0]) != 1, t[0] < 0))
    first, name = terms[0]
    text = name if first == 1 else f"(-{name})" if first == -1 else f"vset1({_number(first)}) * {name}"
    for factor, other in terms[1:]:
        if factor == 1:
            text = f"({text} + {other})"
        elif factor == -1:
            text = f"({text} - {other})"
        else:
            text = f"vfma(vset1({_number(factor)}), {other}, {text})"
    return text


def _number(value: Fraction) -> str:
    return f"{float(value)!r}f"
