"""Values and gradients of PyTorch for choices, orders, spreads, norms, sums of products and decompositions, with ties, zeros,
infinities and NaN. Writes operations.json beside this script; numbers are texts, so that nan and infinities stay.
Made with torch 2.13.0: python3 make_operations_golden.py"""

import json
import os

import torch

nan, inf = float("nan"), float("inf")


def texts(tensor):
    return [repr(float(x)) for x in tensor.detach().flatten()]


def case(name, operation, *operands, index=None, **extra):
    inputs = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in operands]
    y = operation(*inputs)
    weights = torch.arange(1, y.numel() + 1, dtype=torch.float32).reshape(y.shape)  # a seed that tells elements apart
    (y * weights).sum().backward()
    row = {
        "name": name, **extra, "shape": list(y.shape) or [1],
        "operands": [{"shape": list(x.shape), "values": texts(x)} for x in inputs],
        "result": texts(y), "gradients": [texts(x.grad) for x in inputs],
    }
    if index is not None:
        index = torch.tensor(index)
        row["index"] = {"shape": list(index.shape), "values": index.flatten().tolist()}
    return row


matrix = [[1.0, 3.0, 3.0, -2.0], [3.0, 2.0, 1.0, 0.5], [2.0, 2.0, 2.0, -4.0]]
flat = [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, -1.0, 0.0]]
ties = [[1.0, -3.0, 3.0], [0.0, 0.0, 0.0], [2.0, -0.5, 0.0]]
holed = [[2.0, nan, 1.0, inf], [1.0, 1.0, -inf, nan]]
cube = [[[1.0, 2.0], [3.0, -1.0]], [[0.5, 0.0], [2.0, 4.0]], [[-1.0, 1.0], [1.5, 2.5]]]
cases = []

flags, first, second = [[1.0, 0.0, 1.0]], [[1.0, inf, nan], [2.0, 5.0, 6.0]], [nan, 7.0, inf]
cases.append(case(
    "where", lambda a, b: torch.where(torch.tensor(flags) != 0, a, b), first, second, index=[[1, 0, 1]]))
for axis, index in [(0, [[0, 2, 1, 1], [0, 0, 2, 1]]), (1, [[3, 0, 0], [1, 1, 1]])]:
    places = torch.tensor(index)
    cases.append(case("gather", lambda x: x.gather(axis, places), matrix, index=index, axis=axis))
    source = [[10.0 + i + 5 * j for i in range(len(index[0]))] for j in range(len(index))]
    cases.append(case(
        "scatter_add", lambda x, s: x.scatter_add(axis, places, s), matrix, source, index=index, axis=axis))
for axis, index in [(0, [[0, 2, 1, 1], [1, 0, 2, 0]]), (1, [[3, 0, 1], [1, 2, 0]])]:  # nothing twice: torch leaves that open
    places = torch.tensor(index)
    source = [[10.0 + i + 5 * j for i in range(len(index[0]))] for j in range(len(index))]
    cases.append(case("scatter", lambda x, s: x.scatter(axis, places, s), matrix, source, index=index, axis=axis))
for axis in [0, 1]:
    cases.append(case("cumsum", lambda x: x.cumsum(axis), matrix, axis=axis))
for axis in [0, 1]:
    for descending in [False, True]:
        for x in [matrix, holed]:
            cases.append(case(
                "sort descending" if descending else "sort",
                lambda x: torch.sort(x, dim=axis, descending=descending, stable=True).values, x, axis=axis))
cases.append(case("sort", lambda x: torch.sort(x, dim=1, stable=True).values, cube, axis=1))
for correction in [0, 1, 2]:
    cases.append(case("var", lambda x: x.var(dim=1, correction=correction), flat, axis=1, correction=correction))
    cases.append(case("std", lambda x: x.std(dim=1, correction=correction), flat, axis=1, correction=correction))
cases.append(case("var", lambda x: x.var(), matrix, correction=1))
cases.append(case("std", lambda x: x.std(), matrix, correction=1))
cases.append(case("std", lambda x: x.std(dim=0), cube, axis=0, correction=1))
for p in [1.0, 1.5, 2.0, 3.0, inf]:
    cases.append(case("norm", lambda x: x.norm(p=p, dim=1), ties, axis=1, p=repr(p)))
    cases.append(case("norm", lambda x: x.norm(p=p, dim=0), ties, axis=0, p=repr(p)))
cases.append(case("norm", lambda x: torch.linalg.vector_norm(x), ties, p="2.0"))
square = [[1.0, 2.0], [3.0, -1.0]]
wide = [[1.0, 0.5, -2.0], [2.0, 1.0, 3.0]]
for equation, operands in [
    ("ij,jk->ik", [square, wide]), ("ij,kj->ik", [square, [[1.0, 2.0], [0.0, 1.0], [4.0, 5.0]]]), ("ij->ji", [wide]),
    ("ij->j", [wide]), ("ij->", [wide]), ("i,j->ij", [[1.0, 2.0], [3.0, 4.0, 5.0]]), ("i,i->", [[1.0, 2.0], [3.0, 4.0]]),
    ("bij,bjk->bik", [cube, cube]), ("bij,bkj->ikb", [cube, cube]), ("bij,j->bi", [cube, [1.0, 2.0]]),
    ("bij,ij->b", [cube, square]), ("ij,jk,kl->il", [square, square, square]), ("ij,ij->ij", [square, square]),
    ("ab,c->a", [wide, [1.0, 2.0]]),
]:
    cases.append(case("einsum", lambda *xs: torch.einsum(equation, *xs), *operands, equation=equation))
tall = [[1.0, 2.0, 0.5], [3.0, -1.0, 2.0], [0.5, 4.0, 1.0], [2.0, 1.0, -3.0]]
broad = [list(row) for row in zip(*tall)]
low = [[1.0, 2.0], [2.0, -1.0], [3.0, 1.0]]
for x in [tall, low, [row[:3] for row in tall[:3]]]:
    for part in [0, 1]:  # R has a positive diagonal here and signs of the machine there, so the sign is taken out
        def signed(x):
            q, r = torch.linalg.qr(x)
            s = torch.sign(torch.diagonal(r)).detach()
            return q * s if part == 0 else s[:, None] * r
        cases.append(case("qr " + "qr"[part], signed, x))
for x in [tall, broad, low]:
    cases.append(case("svd s", lambda x: torch.linalg.svd(x, full_matrices=False).S, x))
    # Signs of vectors are free, so only what does not depend on them is compared.
    def rebuilt(x):
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        return u @ torch.diag(s ** 2) @ vh
    cases.append(case("svd usv", rebuilt, x))

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "operations.json")
with open(path, "w") as file:
    json.dump({"torch": torch.__version__, "cases": cases}, file, separators=(",", ":"))
    file.write("\n")
print(len(cases), "cases")
