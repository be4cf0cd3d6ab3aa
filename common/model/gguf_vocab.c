#include "common/model/gguf.h"

#include <inttypes.h>
#include <string.h>

/* The tokenizer a GGUF file carries. Keys that are absent get what llama.cpp assumes. */

static kf_status token_id(
	const kf_gguf *g, const char *key, int32_t n, int32_t absent, int32_t *out, kf_err *err)
{
	const kf_gguf_entry *e = kf_gguf_find(g, key);
	int64_t v;
	kf_status rc;

	*out = absent < n ? absent : -1;
	if (!e) return KF_OK;
	/* Converters write "none" as the largest unsigned number. */
	if ((rc = kf_gguf_int(g, key, INT32_MIN, UINT32_MAX, &v, err)) != KF_OK) return rc;
	if (v < 0 || v == UINT32_MAX) {
		*out = -1;
		return KF_OK;
	}
	if (v >= n)
		return kf_fail(err, KF_EDATA, "%s: %s is %" PRId64 ", but the vocabulary has %d tokens",
			kf_gguf_path(g), key, v, n);
	*out = (int32_t)v;
	return KF_OK;
}

static kf_status flag(const kf_gguf *g, const char *key, bool absent, bool *out, kf_err *err)
{
	*out = absent;
	return kf_gguf_find(g, key) ? kf_gguf_bool(g, key, out, err) : KF_OK;
}

/* An array of n numbers of 4 bytes, copied for alignment; NULL when the key is absent. */
static kf_status numbers(const kf_gguf *g, const char *key, kf_gguf_type a, kf_gguf_type b, uint64_t n,
	kf_arena *arena, const void **out, kf_err *err)
{
	const kf_gguf_entry *e = kf_gguf_find(g, key);
	void *copy;

	*out = NULL;
	if (!e) return KF_OK;
	if (e->type != KF_GGUF_ARRAY || (e->item != a && e->item != b))
		return kf_fail(err, KF_EDATA, "%s: %s is no array of the expected type", kf_gguf_path(g), key);
	if (e->n != n)
		return kf_fail(err, KF_EDATA, "%s: %s has %" PRIu64 " values for %" PRIu64 " tokens", kf_gguf_path(g),
			key, e->n, n);
	if (!(copy = kf_arena_alloc(arena, (size_t)n, 4)))
		return kf_fail(err, KF_ENOMEM, "%s: no memory for %s", kf_gguf_path(g), key);
	memcpy(copy, e->data, e->size);
	*out = copy;
	return KF_OK;
}

/* Byte-level BPE vocabularies to which llama.cpp adds BOS unless the file says otherwise. */
static bool pre_adds_bos(const char *pre)
{
	static const char *const names[] = { "llama3", "llama-v3", "llama-bpe", "falcon3", "tekken",
		"chameleon" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(pre, names[i])) return true;
	return false;
}

kf_status kf_gguf_vocab(const kf_gguf *g, kf_arena *arena, kf_vocab_spec *out, kf_err *err)
{
	kf_vocab_spec v = { .pre = "default" };
	const char *path = kf_gguf_path(g);
	const void *scores, *types;
	uint64_t n, n_merges = 0;
	bool spm;
	kf_status rc;

	if (!kf_gguf_find(g, "tokenizer.ggml.model"))
		return kf_fail(err, KF_EDATA, "%s: holds no tokenizer (no tokenizer.ggml.model)", path);
	if ((rc = kf_gguf_string(g, "tokenizer.ggml.model", arena, &v.model, err)) != KF_OK) return rc;
	spm = !strcmp(v.model, "llama");
	if (!spm && strcmp(v.model, "gpt2") != 0)
		return kf_fail(err, KF_EUNSUPPORTED,
			"%s: its tokenizer is of kind \"%s\"; kfuse supports \"llama\" (SentencePiece) and "
			"\"gpt2\" (byte-level BPE)",
			path, v.model);
	if (kf_gguf_find(g, "tokenizer.ggml.pre") &&
		(rc = kf_gguf_string(g, "tokenizer.ggml.pre", arena, &v.pre, err)) != KF_OK) return rc;
	if ((rc = kf_gguf_strings(g, "tokenizer.ggml.tokens", arena, &v.pieces, &n, err)) != KF_OK) return rc;
	if (n == 0 || n > INT32_MAX / 4)
		return kf_fail(err, KF_EDATA, "%s: its vocabulary has %" PRIu64 " tokens", path, n);
	v.n = (int32_t)n;
	if ((rc = numbers(g, "tokenizer.ggml.scores", KF_GGUF_F32, KF_GGUF_F32, n, arena, &scores, err)) != KF_OK)
		return rc;
	if ((rc = numbers(g, "tokenizer.ggml.token_type", KF_GGUF_I32, KF_GGUF_U32, n, arena, &types, err)) !=
		KF_OK)
		return rc;
	v.scores = scores;
	v.types = types;
	for (uint64_t i = 0; i < n; i++) {
		if (v.types && (v.types[i] < 0 || v.types[i] > KF_TT_BYTE))
			return kf_fail(err, KF_EDATA, "%s: token %" PRIu64 " has type %d, which GGUF does not have", path,
				i, v.types[i]);
		if (v.scores && v.scores[i] != v.scores[i])
			return kf_fail(err, KF_EDATA, "%s: the score of token %" PRIu64 " is not a number", path, i);
	}
	if (!spm) {
		if ((rc = kf_gguf_strings(g, "tokenizer.ggml.merges", arena, &v.merges, &n_merges, err)) != KF_OK)
			return rc;
		if (n_merges > INT32_MAX / 4)
			return kf_fail(err, KF_EDATA, "%s: its tokenizer has %" PRIu64 " merges", path, n_merges);
		v.n_merges = (int32_t)n_merges;
	}
	if ((rc = token_id(g, "tokenizer.ggml.bos_token_id", v.n, spm ? 1 : -1, &v.bos, err)) != KF_OK ||
		(rc = token_id(g, "tokenizer.ggml.eos_token_id", v.n, spm ? 2 : -1, &v.eos, err)) != KF_OK ||
		(rc = token_id(g, "tokenizer.ggml.unknown_token_id", v.n, spm ? 0 : -1, &v.unk, err)) != KF_OK ||
		(rc = token_id(g, "tokenizer.ggml.padding_token_id", v.n, -1, &v.pad, err)) != KF_OK ||
		(rc = flag(g, "tokenizer.ggml.add_bos_token", spm || pre_adds_bos(v.pre), &v.add_bos, err)) !=
			KF_OK ||
		(rc = flag(g, "tokenizer.ggml.add_eos_token", false, &v.add_eos, err)) != KF_OK ||
		(rc = flag(g, "tokenizer.ggml.add_space_prefix", spm, &v.add_space_prefix, err)) != KF_OK ||
		(rc = flag(g, "tokenizer.ggml.remove_extra_whitespaces", false, &v.remove_extra_whitespaces, err)) !=
			KF_OK)
		return rc;
	/* as sentencepiece finds it, where the file names none */
	for (int32_t i = 0; spm && v.pad < 0 && v.types && i < v.n; i++)
		if (v.types[i] == KF_TT_CONTROL && strcmp(v.pieces[i], "<pad>") == 0) v.pad = i;
	if (kf_gguf_find(g, "tokenizer.chat_template") &&
		(rc = kf_gguf_string(g, "tokenizer.chat_template", arena, &v.chat_template, err)) != KF_OK)
		return rc;
	*out = v;
	return KF_OK;
}
