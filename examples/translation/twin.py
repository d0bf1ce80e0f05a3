"""The same translator in PyTorch, with the same weights: what Strop's network is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.translation.model import BOS, EOS, NEVER, Sizes, Weights


class Translator(nn.Module):
    """``forward`` is a batch's search, step by step in Python."""

    def __init__(self, weights: Weights, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        h = sizes.hidden
        self.source = nn.Embedding(sizes.source, sizes.embedding)
        self.target = nn.Embedding(sizes.target, sizes.embedding)
        self.encoder = nn.LSTM(sizes.embedding, h // 2, sizes.layers, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(sizes.embedding + h, h, sizes.layers, batch_first=True)
        self.attend = nn.Linear(h, h, bias=False)
        self.combine = nn.Linear(2 * h, h, bias=False)
        self.words = nn.Linear(h, sizes.target)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self.eval()

    @torch.no_grad()
    def forward(self, source: Tensor, lengths: Tensor, steps: int, beam: int, straight: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """words and parents [steps, N, K], scores [N, K].

        With ``straight`` nothing depends on values, as a CUDA graph needs it: all steps are made, and sentences are as long as their row.
        """
        n, length = source.shape
        memory, state = self.encode(source, None if straight else lengths)
        behind = torch.arange(length, device=source.device)[None] >= lengths[:, None]
        mask = torch.zeros(n, length, device=source.device).masked_fill(behind, NEVER).to(memory.dtype)[:, None]
        word = torch.full((n, beam), BOS, device=source.device)
        score = torch.zeros(n, beam, device=source.device).masked_fill(torch.arange(beam, device=source.device) > 0, NEVER)
        feed = memory.new_zeros(n, beam, self.sizes.hidden)
        state = tuple(s.repeat_interleave(beam, 1) for s in state)
        words, parents = [], []
        for _ in range(steps):
            logits, feed, state = self.step(word, feed, state, memory, mask)
            word, parent, score = choose(logits, word, score)
            if beam > 1:
                rows = (torch.arange(n, device=source.device)[:, None] * beam + parent).reshape(-1)
                feed = feed.reshape(n * beam, -1)[rows].reshape(n, beam, -1)
                state = tuple(s[:, rows] for s in state)
            words.append(word)
            parents.append(parent)
            if not straight and bool((word == EOS).all()):
                break
        return torch.stack(words), torch.stack(parents), score

    def encode(self, source: Tensor, lengths: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """States of all words [N, S, H], and the decoder's first states and cells [L, N, H]."""
        n, length = source.shape
        if lengths is None:
            memory, ends = self.encoder(self.source(source))
            return memory, self._joined(ends, n)
        packed = nn.utils.rnn.pack_padded_sequence(self.source(source), lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, ends = self.encoder(packed)
        memory = nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=length)[0]
        return memory, self._joined(ends, n)

    def _joined(self, ends: tuple[Tensor, Tensor], n: int) -> tuple[Tensor, Tensor]:
        """The two directions of each layer side by side."""
        depth = self.sizes.layers
        state, cell = (e.reshape(depth, 2, n, -1).permute(0, 2, 1, 3).reshape(depth, n, -1).contiguous() for e in ends)
        return state, cell

    def step(self, word: Tensor, feed: Tensor, state: tuple[Tensor, ...], memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Logits [N K, V], and what the next step is fed."""
        n, k = word.shape
        x = torch.cat([self.target(word.reshape(-1)), feed.reshape(n * k, -1)], 1)[:, None]
        y, state = self.decoder(x, state)
        y = y.reshape(n, k, -1)
        share = torch.softmax(self.attend(y) @ memory.transpose(1, 2) + mask, -1)
        feed = torch.tanh(self.combine(torch.cat([share @ memory, y], 2)))
        return self.words(feed).reshape(n * k, -1), feed, state


def choose(logits: Tensor, word: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Words, parents and scores of the best continuations."""
    n, k = word.shape
    values, places = logits.topk(k, 1)
    gain = (values.float() - logits.logsumexp(1, keepdim=True).float()).reshape(n, k, k)
    ended = (word == EOS)[:, :, None]
    only = torch.zeros(k, device=logits.device).masked_fill(torch.arange(k, device=logits.device) > 0, NEVER)
    gain = torch.where(ended, only, gain)
    places = places.reshape(n, k, k).masked_fill(ended, EOS)
    sums, top = (score[:, :, None] + gain).reshape(n, k * k).topk(k, 1)
    return places.reshape(n, k * k).gather(1, top), top // k, sums
