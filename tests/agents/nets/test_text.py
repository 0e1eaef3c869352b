import json

import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.nets import text  # noqa: E402
from flowbench.agents.nets.text import TextConfig, make_text_encoder, text_encoder, words_of  # noqa: E402
from flowbench.errors import BadValue, DataError, UnknownName  # noqa: E402

SENTENCES = ("door open", "door close", "button press topdown")


@pytest.fixture
def tiny_model(tmp_path):
    """A folder with a random BERT of width 12 and a tokenizer of words, as minilm expects."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "door", "open", "close", "button", "press"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path / "model")
    config = transformers.BertConfig(
        vocab_size=7, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "model")
    text._language_model.cache_clear()
    yield str(tmp_path / "model")
    text._language_model.cache_clear()


def test_words_are_lower_case_letters_and_digits():
    assert words_of("Put the BBQ-sauce, 2x!") == ["put", "the", "bbq", "sauce", "2x"]


def test_vocab_gives_vectors_and_masked_tokens():
    encoder = make_text_encoder("vocab", SENTENCES, width=16)
    assert encoder(SENTENCES).shape == (3, 16)
    tokens, mask = encoder.tokens(SENTENCES)
    assert tokens.shape == (3, 3, 16)
    assert mask.tolist() == [[True, True, False], [True, True, False], [True, True, True]]
    assert encoder.width == 16


def test_a_sentence_is_embedded_alike_whatever_stands_beside_it():
    encoder = make_text_encoder("vocab", SENTENCES)
    torch.testing.assert_close(encoder(SENTENCES)[0], encoder(["door open"])[0])


def test_the_order_of_words_counts():
    encoder = make_text_encoder("vocab", ["plate on bowl"])
    assert not torch.allclose(encoder(["plate on bowl"]), encoder(["bowl on plate"]), atol=1e-5)


def test_unknown_words_share_one_embedding():
    encoder = make_text_encoder("vocab", SENTENCES)
    known, first, second = encoder(["door open", "window open", "fridge open"])
    torch.testing.assert_close(first, second)
    assert not torch.allclose(known, first)
    assert encoder([""]).isfinite().all()


def test_the_config_alone_builds_an_encoder_that_takes_the_checkpoint():
    encoder = make_text_encoder("vocab", SENTENCES)
    from dataclasses import asdict

    config = TextConfig(**json.loads(json.dumps(asdict(encoder.config))))
    assert config == encoder.config
    again = text_encoder(config)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(["close button"]), encoder(["close button"]))


def test_an_unknown_encoder_names_the_nearest():
    with pytest.raises(UnknownName, match="There is no text encoder 'clips'. Did you mean 'clip'"):
        make_text_encoder("clips")


@pytest.mark.parametrize("name, model", [(n, kind.model) for n, kind in text.PRETRAINED.items()])
def test_a_model_that_is_not_here_says_how_to_get_it(name, model, monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = make_text_encoder(name, SENTENCES, path=None if name == "clip" else str(tmp_path / "nowhere"))
    wanted = model if name == "clip" else str(tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"{name!r} needs {wanted}.*hf download .* give its folder as path"):
        encoder.prepare()


def test_a_frozen_model_is_asked_once_per_sentence(tiny_model, monkeypatch):
    encoder = make_text_encoder("minilm", SENTENCES, path=tiny_model, width=12, max_tokens=4)
    asked = []
    ask = encoder._ask
    monkeypatch.setattr(encoder, "_ask", lambda sentence: asked.append(sentence) or ask(sentence))
    first = encoder(["door open", "door close", "door open", "press door"])
    assert first.shape == (4, 12)
    torch.testing.assert_close(first[0], first[2])
    assert not torch.allclose(first[0], first[1])
    encoder(["door open", "press door"])
    assert asked == ["door open", "door close", "press door"]
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(4))
    tokens, mask = encoder.tokens(["button press topdown", "door open"])
    assert tokens.shape == (2, 4, 12)
    assert mask.sum(1).tolist() == [3, 2]
    assert tokens[~mask].abs().max() == 0


def test_a_checkpoint_carries_the_embeddings_so_that_the_model_is_not_needed(tiny_model):
    encoder = make_text_encoder("minilm", SENTENCES, path=tiny_model, width=12, max_tokens=4)
    encoder.prepare()
    assert list(encoder.parameters()) == []
    again = make_text_encoder("minilm", SENTENCES, path="/nowhere", width=12, max_tokens=4)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(SENTENCES), encoder(SENTENCES))
    assert torch.equal(again.tokens(SENTENCES)[1], encoder.tokens(SENTENCES)[1])
    with pytest.raises(DataError, match="needs /nowhere"):
        again(["open the pod bay doors"])


def test_a_model_of_another_width_says_which(tiny_model):
    with pytest.raises(BadValue, match="has width 12, but the encoder was made for 384. Give width=12"):
        make_text_encoder("minilm", SENTENCES, path=tiny_model).prepare()
