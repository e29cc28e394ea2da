"""Random numbers are functions of their key."""

from __future__ import annotations

import random

import numpy as np
import torch

from super_selfish.seeding import KeyedGenerator, generator_from_torch, global_seed, make_key, splitmix64


def test_splitmix64_matches_published_values() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4).tolist() == published


def test_draws_are_reproducible_across_platforms() -> None:
    """A training can be resumed on another machine and with another version of Python."""
    generator = KeyedGenerator(0, "x", 2**70, -3)
    assert [generator.bits() >> 32 for _ in range(3)] == [2341026115, 490073929, 2488090034]
    assert [KeyedGenerator(np.int64(5), "a").bits(), make_key(np.int64(5))] == [
        KeyedGenerator(5, "a").bits(),
        make_key(5),
    ]


def test_keys_depend_on_every_part() -> None:
    keys = {
        make_key(*parts)
        for parts in [(0,), (0, 0), (0, 0, 0), (1, 0), (0, 1), (-1, 0), ("a", 0), ("b", 0), (2**64, 0), (2**64 + 1, 0)]
    }
    assert len(keys) == 10
    assert (
        len({make_key(seed, epoch, index) for seed in range(10) for epoch in range(10) for index in range(100)})
        == 10_000
    )


def test_arrays_advance_the_generator_by_one_draw() -> None:
    one, many = KeyedGenerator(3, "x"), KeyedGenerator(3, "x")
    one.bits()
    assert many.uniforms(3, 4).shape == (3, 4)
    assert one.uniform() == many.uniform()
    draws = [KeyedGenerator(3, "x").uniform(), *many.uniforms(50)]
    assert len(set(draws)) == len(draws)


def test_draws_are_uniform() -> None:
    draws = KeyedGenerator(5).uniforms(100_000)
    assert 0 <= draws.min() < 1e-3
    assert 1 - 1e-3 < draws.max() < 1
    assert abs(draws.mean() - 0.5) < 5 / np.sqrt(12 * 100_000)
    counts = np.bincount([KeyedGenerator(5, index).integer(7) for index in range(14_000)], minlength=7)
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)


def test_chance_and_permutation() -> None:
    assert not any(KeyedGenerator(index).chance(0.0) for index in range(100))
    assert all(KeyedGenerator(index).chance(1.0) for index in range(100))
    orders = {tuple(KeyedGenerator(index).permutation(4)) for index in range(500)}
    assert len(orders) == 24
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


def test_global_seed_restores_the_generators() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    inside = []
    for _ in range(2):
        with global_seed(make_key(9)):
            inside.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert inside[0] == inside[1]
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected


def test_generator_from_torch_uses_the_global_seed() -> None:
    torch.manual_seed(4)
    first = generator_from_torch().uniform()
    second = generator_from_torch().uniform()
    torch.manual_seed(4)
    assert generator_from_torch().uniform() == first != second
