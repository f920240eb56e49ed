#!/usr/bin/env python3
"""Makes small random models with transformers, and what they give: logits, losses, gradients and ten steps of AdamW.

    make_fixtures.py FOLDER [--seed N]

Needs torch, transformers and safetensors. tests/gpu/fixtures was made with --seed 1; other seeds draw other shapes.
"""
import argparse
import json
import pathlib
import random

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

STEPS = 10
RATE, BETAS, EPSILON, DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1


def make_model(family, rng):
    kv_heads = rng.choice([1, 2])
    heads = kv_heads * rng.choice([1, 2, 3])
    head_dim = rng.choice([8, 16])
    sizes = dict(vocab_size=rng.randrange(60, 120), intermediate_size=rng.randrange(24, 56), num_hidden_layers=rng.choice([2, 3]),
                 num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=64, tie_word_embeddings=rng.random() < 0.5,
                 rope_theta=rng.choice([1e4, 1e6]), initializer_range=0.2, attn_implementation="eager")
    if family == "qwen3":
        config = Qwen3Config(hidden_size=rng.randrange(20, 40), head_dim=head_dim, **sizes)
        model = Qwen3ForCausalLM(config)
    else:
        config = Qwen2Config(hidden_size=heads * head_dim, **sizes)
        model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():  # norms and biases that are not trivial
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.3)
    return model.float()


def loss_of(model, sequences, weights):
    """The weighted mean of cross-entropy, and all logits."""
    logits, losses = [], []
    for tokens, weight in zip(sequences, weights):
        out = model(input_ids=tokens[None]).logits[0]
        logits.append(out)
        losses.append(torch.nn.functional.cross_entropy(out[:-1], tokens[1:], reduction="none") * weight[1:])
    return torch.cat(losses).sum() / sum(weight[1:].sum() for weight in weights), torch.cat(logits)


def make(family, folder, rng):
    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(family, rng)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    vocabulary = model.config.vocab_size
    lengths = [rng.randrange(2, 20) for _ in range(3)]
    sequences = [torch.randint(0, vocabulary, (length,)) for length in lengths]
    weights = [torch.randint(0, 3, (length,)).float() for length in lengths]
    for weight in weights:
        weight[-1] = 1
    tensors = {"tokens": torch.cat(sequences).int(), "weights": torch.cat(weights),
               "begins": torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)]).int()}
    loss, logits = loss_of(model, sequences, weights)
    loss.backward()
    tensors["logits"] = logits.detach()
    for name, parameter in model.named_parameters():
        tensors["gradient." + name] = parameter.grad.clone()
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": DECAY},
         {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}], lr=RATE, betas=BETAS, eps=EPSILON)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, _ = loss_of(model, sequences, weights)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    tensors["losses"] = torch.tensor(losses)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "expected.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    for family in ("qwen3", "qwen2"):
        make(family, arguments.folder / family, rng)
        print(f"{arguments.folder / family}: {json.loads((arguments.folder / family / 'config.json').read_text())['model_type']}")


if __name__ == "__main__":
    main()
