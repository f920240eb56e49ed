#!/usr/bin/env python3
"""The peer of outlast-train-bench and outlast-decode-bench: the same student in PyTorch on the processors. Needs torch.

student_torch.py training|decoding prints one JSON object of tokens per second. Decoding is greedy; sixteen at once are of one length, so
that PyTorch needs no padding.
"""
import json
import sys
import time

import torch

from torch_model import Model, Shape, optimizer_of, train_step

STUDENT = Shape(vocabulary=8192, hidden=320, intermediate=1024, layers=6, heads=6, kv_heads=2, dim=64)
SEQUENCE, SEQUENCES, WARM_UP, STEPS = 256, 8, 2, 10
PROMPT, ANSWER, RUNS = 32, 256, 5


def training():
    model = Model(STUDENT, SEQUENCE)
    optimizer = optimizer_of(model)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        tokens = torch.randint(STUDENT.vocabulary, (SEQUENCES, SEQUENCE))
        began = time.perf_counter()
        train_step(model, optimizer, tokens)
        seconds.append(time.perf_counter() - began)
    return SEQUENCES * SEQUENCE / sorted(seconds[WARM_UP:])[STEPS // 2]


@torch.inference_mode()
def decoding(batch):
    model = Model(STUDENT, PROMPT + ANSWER)
    cache = model.cache(batch)
    tokens = model.likeliest(model.states(torch.randint(STUDENT.vocabulary, (batch, PROMPT)), 0, cache))
    began = time.perf_counter()
    for place in range(PROMPT, PROMPT + ANSWER - 1):
        tokens = model.likeliest(model.states(tokens, place, cache))
    return batch * (ANSWER - 1) / (time.perf_counter() - began)


def main():
    figures = {"version": torch.__version__, "threads": torch.get_num_threads()}
    if sys.argv[1:] == ["training"]:
        figures["tokens_per_s"] = training()
    elif sys.argv[1:] == ["decoding"]:
        figures |= {name: max(decoding(batch) for _ in range(RUNS)) for name, batch in (("alone_tokens_per_s", 1), ("together_tokens_per_s", 16))}
    else:
        sys.exit(__doc__)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
