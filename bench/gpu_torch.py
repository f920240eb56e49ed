#!/usr/bin/env python3
"""The peer of outlast-gpu-bench: the same models in PyTorch, eager, on the same device. Needs torch.

Prints lines "training 0.6B TOKENS_PER_SECOND" and "decoding 0.6B TOKENS_PER_SECOND". Weights are bf16 and so is AdamW's state (fused),
which is less work than the fp32 copies of outlast-gpu-bench; a batch is 8,192 tokens, whose logits exist at once.
"""
import sys
import time

import torch

from torch_model import Model, Shape, optimizer_of, train_step

SEQUENCE, SEQUENCES, WARM_UP, STEPS = 2048, 4, 2, 8
PROMPT, ANSWER = 32, 256
SHAPES = {"0.6B": Shape(151936, 1024, 3072, 28, 16, 8, 128), "1.7B": Shape(151936, 2048, 6144, 28, 16, 8, 128)}


def training(model):
    optimizer = optimizer_of(model)

    def step():
        train_step(model, optimizer, torch.randint(model.shape.vocabulary, (SEQUENCES, SEQUENCE), device="cuda"))
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return STEPS * SEQUENCES * SEQUENCE / (time.perf_counter() - began)


@torch.inference_mode()
def decoding(model):
    best = 0
    for _ in range(3):
        cache = model.cache(1)
        token = model.likeliest(model.states(torch.randint(model.shape.vocabulary, (1, PROMPT), device="cuda"), 0, cache))
        torch.cuda.synchronize()
        began = time.perf_counter()
        for place in range(PROMPT, PROMPT + ANSWER - 1):
            token = model.likeliest(model.states(token, place, cache))
            token.item()
        best = max(best, (ANSWER - 1) / (time.perf_counter() - began))
    return best


def main():
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    for name, shape in SHAPES.items():
        for what, measure, positions in (("training", training, SEQUENCE), ("decoding", decoding, PROMPT + ANSWER)):
            model = Model(shape, positions, "cuda", torch.bfloat16)
            try:
                print(what, name, round(measure(model), 1), flush=True)
            except torch.cuda.OutOfMemoryError:
                print(f"PyTorch: {what} of {name} does not fit", file=sys.stderr)
            del model
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
