"""Text encoders behind one interface: words learned from scratch, or a frozen language model.

A suite has tens of sentences, so a frozen model embeds each of them once. The embeddings of the sentences in the config
are part of the checkpoint: evaluating it needs neither the language model nor a network, as long as nobody asks anything
new.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import nn

from flowbench.errors import BadValue, DataError, missing_extra, unknown_name

_WORD = re.compile(r"[a-z0-9]+")
UNKNOWN = "<unk>"


class PretrainedText(NamedTuple):
    """A language model and how a sentence becomes one vector.

    Attributes:
        model: Its name on the Hugging Face hub.
        width: Length D of a token.
        pool: `mean` over tokens, or the model's own `pooled` output.
    """

    model: str
    width: int
    pool: Literal["mean", "pooled"]


PRETRAINED = {
    # AVDC: CLIP ViT-B/32; `last_hidden_state` for tokens, the end-of-text token for the sentence.
    "clip": PretrainedText("openai/clip-vit-base-patch32", 512, "pooled"),
    "t5": PretrainedText("google-t5/t5-base", 768, "mean"),
    # The mean over tokens, scaled to unit length, as its model card says.
    "minilm": PretrainedText("sentence-transformers/all-MiniLM-L6-v2", 384, "mean"),
}


@dataclass(frozen=True)
class TextConfig:
    """A text encoder.

    Attributes:
        name: `vocab`, `clip`, `t5` or `minilm`.
        sentences: The instructions of the training data: `vocab` knows their words, the others store their embeddings.
        width: Length D of an embedding; None takes 128 for `vocab` and the published model's for the others.
        path: Folder or hub name of another model of the same kind.
        max_tokens: Longer sentences are cut.
    """

    name: str = "vocab"
    sentences: tuple[str, ...] = ()
    width: int | None = None
    path: str | None = None
    max_tokens: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", tuple(dict.fromkeys(self.sentences)))  # JSON gives a list
        names = ("vocab", *PRETRAINED)
        if self.name not in names:
            raise unknown_name("text encoder", self.name, names)
        if self.max_tokens < 1:
            raise BadValue(f"max_tokens of a text encoder is {self.max_tokens}; it is at least 1.")


class TextEncoder(nn.Module):
    """Sentences to vectors.

    Attributes:
        width: Length D of a vector.
    """

    config: TextConfig
    width: int

    def forward(self, instructions: Sequence[str]) -> torch.Tensor:
        """Embed sentences as (B, D)."""
        raise NotImplementedError

    def tokens(self, instructions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed sentences as (B, L, D) tokens and a (B, L) bool mask, True where there is a token."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Embed the config's sentences now, so that the checkpoint holds them; training calls it once.

        Raises:
            DataError: If the language model cannot be had.
        """


def make_text_encoder(name: str, sentences: Sequence[str] = (), **options: object) -> TextEncoder:
    """Build a text encoder; see `TextConfig` for the arguments.

    Raises:
        UnknownName: With the nearest name.
    """
    return text_encoder(TextConfig(name, tuple(sentences), **options))


def text_encoder(config: TextConfig) -> TextEncoder:
    """Build the text encoder of a config."""
    return VocabEncoder(config) if config.name == "vocab" else FrozenEncoder(config)


def words_of(sentence: str) -> list[str]:
    """Split a sentence into lower-case words of letters and digits."""
    return _WORD.findall(sentence.lower())


class VocabEncoder(TextEncoder):
    """Learned words and positions, a layer on each token, then their mean.

    Words that the config's sentences lack share one embedding. The layer before the mean lets the order of words count:
    a mean of sums of words and positions would not see it.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width or 128
        vocabulary = sorted({word for sentence in config.sentences for word in words_of(sentence)})
        #: Index 0 is padding.
        self.index = {word: number for number, word in enumerate((UNKNOWN, *vocabulary), start=1)}
        self.words = nn.Embedding(len(self.index) + 1, self.width, padding_idx=0)
        self.positions = nn.Embedding(config.max_tokens, self.width)
        self.token = nn.Sequential(nn.Linear(self.width, self.width), nn.GELU(), nn.Linear(self.width, self.width))

    def forward(self, instructions: Sequence[str]) -> torch.Tensor:
        """Embed sentences as (B, D)."""
        tokens, mask = self.tokens(instructions)
        return (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)

    def tokens(self, instructions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed sentences as (B, L, D) tokens and a (B, L) mask."""
        numbers = [self._numbers(sentence) for sentence in instructions]
        length = max(1, *(len(row) for row in numbers)) if numbers else 1
        padded = torch.tensor([row + [0] * (length - len(row)) for row in numbers], device=self.words.weight.device)
        padded = padded.view(len(numbers), length).long()
        return self.token(self.words(padded) + self.positions.weight[:length]), padded != 0

    def _numbers(self, sentence: str) -> list[int]:
        unknown = self.index[UNKNOWN]
        return [self.index.get(word, unknown) for word in words_of(sentence)][: self.config.max_tokens]


class FrozenEncoder(TextEncoder):
    """A frozen language model, asked once per sentence.

    The model itself is no part of this module: it stays out of checkpoints, of the optimizer and of the GPU.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.kind = PRETRAINED[config.name]
        self.width = config.width or self.kind.width
        count = len(config.sentences)
        self.register_buffer("table", torch.zeros(count, config.max_tokens, self.width))
        self.register_buffer("sentence_table", torch.zeros(count, self.width))
        #: Number of tokens; 0 until the sentence is embedded.
        self.register_buffer("lengths", torch.zeros(count, dtype=torch.long))
        self._rows = {sentence: row for row, sentence in enumerate(config.sentences)}
        self._others: dict[str, tuple[torch.Tensor, torch.Tensor, int]] = {}

    def forward(self, instructions: Sequence[str]) -> torch.Tensor:
        """Embed sentences as (B, D)."""
        return torch.stack([self._embedded(sentence)[1] for sentence in instructions])

    def tokens(self, instructions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed sentences as (B, max_tokens, D) tokens and a (B, max_tokens) mask."""
        tokens, _, lengths = zip(*(self._embedded(sentence) for sentence in instructions), strict=True)
        counts = torch.stack([torch.as_tensor(length, device=self.table.device) for length in lengths])
        return torch.stack(tokens), torch.arange(self.config.max_tokens, device=self.table.device) < counts[:, None]

    def prepare(self) -> None:
        """Embed the config's sentences now."""
        for sentence in self.config.sentences:
            self._embedded(sentence)

    def _embedded(self, sentence: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | int]:
        """Return (max_tokens, D) tokens, the (D,) sentence and the number of tokens."""
        row = self._rows.get(sentence)
        if row is None:
            if sentence not in self._others:
                self._others[sentence] = self._ask(sentence)
            tokens, pooled, length = self._others[sentence]
            return tokens.to(self.table), pooled.to(self.table), length
        if row not in self._known():
            self.table[row], self.sentence_table[row], self.lengths[row] = self._ask(sentence)
            self._filled = None
        return self.table[row], self.sentence_table[row], self.lengths[row]

    _filled: frozenset[int] | None = None

    def _known(self) -> frozenset[int]:
        # Kept, so that a GPU is not waited for at every step; loading a state dict makes it new.
        if self._filled is None:
            self._filled = frozenset(self.lengths.nonzero().flatten().tolist())
        return self._filled

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._filled = None

    @torch.no_grad()
    def _ask(self, sentence: str) -> tuple[torch.Tensor, torch.Tensor, int]:
        tokenizer, model = _language_model(self.config.name, self.config.path or self.kind.model)
        encoded = tokenizer([sentence], return_tensors="pt", truncation=True, max_length=self.config.max_tokens)
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        answer = model(**inputs)
        hidden = answer.last_hidden_state[0]
        if hidden.shape[-1] != self.width:
            raise BadValue(
                f"The text model {self.config.path or self.kind.model} has width {hidden.shape[-1]}, but the encoder was made "
                f"for {self.width}. Give width={hidden.shape[-1]}."
            )
        pooled = answer.pooler_output[0] if self.kind.pool == "pooled" else hidden.mean(dim=0)
        if self.config.name == "minilm":
            pooled = nn.functional.normalize(pooled, dim=-1)
        tokens = torch.zeros(self.config.max_tokens, self.width)
        tokens[: len(hidden)] = hidden
        return tokens, pooled, len(hidden)


@cache
def _language_model(name: str, model: str) -> tuple[object, nn.Module]:
    """Load a tokenizer and a frozen model on the CPU, once per process.

    Raises:
        DataError: If they are not on this machine: how to get them.
    """
    try:
        from transformers import AutoModel, AutoTokenizer, CLIPTextModel, T5EncoderModel
    except ImportError as error:
        raise missing_extra(f"Text encoder {name}", "agents", error) from error
    kinds = {"clip": CLIPTextModel, "t5": T5EncoderModel, "minilm": AutoModel}
    try:
        # Nothing of this size is downloaded unasked; offline, the attempt alone would take most of a minute.
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        network = kinds[name].from_pretrained(model, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"The text encoder {name!r} needs {model}, which is neither a folder nor in the cache of the Hugging Face hub. "
            f"Download it once: hf download {model}; or elsewhere, and give its folder as path. The encoder 'vocab' needs no "
            "download."
        ) from error
    return tokenizer, network.eval().requires_grad_(False)
