#include "align/vocab.h"

#include <string.h>

#include "common/base/hash.h"

#define MAX_PIECE 4096  /* bytes of a token's spelling, of its bytes + 1 */

int32_t align_first_slow(kf_aligner *a, int32_t id)
{
	uint32_t n = align_len(a, id);
	int32_t t = n ? kf_tokenizer_first(a->tgt, a->bytes + a->off[id], n) : -1;

	if (t < 0 || t >= a->vt) t = -1;
	atomic_store_explicit(&a->first[id], t, memory_order_relaxed);
	return t;
}

int32_t align_inner_slow(kf_aligner *a, int32_t id, uint32_t skip)
{
	uint32_t at = a->off[id] + skip;
	int32_t t = kf_tokenizer_first(a->tgt, a->bytes + at, a->off[id + 1] - at);

	if (t < 0 || t >= a->vt) t = -1;
	atomic_store_explicit(&a->inner[at], t, memory_order_relaxed);
	return t;
}

int32_t align_spaced(const kf_aligner *a, int32_t id)
{
	uint8_t buf[MAX_PIECE];
	uint32_t n = align_len(a, id);
	int32_t t;

	if (n == 0 || n + 1 > sizeof buf) return -1;
	buf[0] = ' ';
	memcpy(buf + 1, a->bytes + a->off[id], n);
	t = kf_tokenizer_first(a->tgt, buf, n + 1);
	return t < a->vt ? t : -1;
}

const char *align_marker(const kf_tokenizer *t)
{
	return kf_tokenizer_kind(t) == KF_TOK_SENTENCEPIECE ? "\xe2\x96\x81" : "\xc4\xa0"; /* ▁, Ġ */
}

bool align_respell(const kf_tokenizer *t, int32_t id, const char *to, char *out, size_t size)
{
	const char *p = kf_tokenizer_piece(t, id), *marker = align_marker(t);
	size_t m = strlen(marker), w = strlen(to), n = 0;

	if (!p) p = "";
	while (*p) {
		bool hit = strncmp(p, marker, m) == 0;
		size_t add = hit ? w : 1;

		if (n + add >= size) return false;
		memcpy(out + n, hit ? to : p, add);
		n += add;
		p += hit ? m : 1;
	}
	out[n] = '\0';
	return true;
}

/* ---- the exact map: a hash table from the target's strings to its ids ---- */

kf_status align_exact(const kf_tokenizer *source, const kf_tokenizer *target, int32_t *to, kf_err *err)
{
	int32_t vs = kf_tokenizer_size(source), vt = kf_tokenizer_size(target);
	uint32_t size = 16, h;
	int32_t *slot = NULL;
	char text[MAX_PIECE];
	const char *marker = align_marker(target), *piece;

	while (size < 2u * (uint32_t)vt) size *= 2;
	if (!(slot = kf_alloc(size, sizeof *slot)))
		return kf_fail(err, KF_ENOMEM, "no memory for a vocabulary map of %d tokens", (int)vs);
	for (uint32_t i = 0; i < size; i++) slot[i] = -1;
	for (int32_t id = 0; id < vt; id++) {
		piece = kf_tokenizer_piece(target, id);
		if (!piece || !*piece) continue;
		h = (uint32_t)kf_hash64(piece, strlen(piece)) & (size - 1);
		/* of equal strings the first id stays */
		while (slot[h] >= 0 && strcmp(kf_tokenizer_piece(target, slot[h]), piece) != 0) h = (h + 1) & (size - 1);
		if (slot[h] < 0) slot[h] = id;
	}
	for (int32_t id = 0; id < vs; id++) {
		to[id] = -1;
		if (!align_respell(source, id, marker, text, sizeof text) || !*text) continue;
		h = (uint32_t)kf_hash64(text, strlen(text)) & (size - 1);
		while (slot[h] >= 0 && strcmp(kf_tokenizer_piece(target, slot[h]), text) != 0) h = (h + 1) & (size - 1);
		to[id] = slot[h];
	}
	kf_free(slot);
	return KF_OK;
}

kf_status kf_aligner_use_map(kf_aligner *a, const kf_vocabmap *map, kf_err *err)
{
	if (a->map != KF_ALIGN_MINED && a->map != KF_ALIGN_STATS)
		return kf_fail(err, KF_EINVAL, "this vocabulary map is not read from anywhere");
	if (map->key.n != a->vs || map->key.m != a->vt)
		return kf_fail(err, KF_EMISMATCH, "the vocabulary map is of %d to %d tokens, the tokenizers have %d and %d", (int)map->key.n,
			(int)map->key.m, (int)a->vs, (int)a->vt);
	/* what is spelled alike is itself, whatever was counted; the published code looks at that by itself */
	for (int32_t id = 0; id < a->vs; id++) a->image[id] = a->exact[id] >= 0 && !a->quirks ? a->exact[id] : map->to[id];
	a->ready = true;
	return KF_OK;
}

kf_status kf_aligner_new(const kf_tokenizer *source, const kf_tokenizer *target, kf_align_method method,
	kf_align_map map, kf_aligner **out, kf_err *err)
{
	kf_aligner *a;
	uint64_t total = 0;
	kf_status rc;

	*out = NULL;
	if (!(a = kf_zalloc(1, sizeof *a))) return kf_fail(err, KF_ENOMEM, "no memory for an aligner");
	a->src = source;
	a->tgt = target;
	a->method = method;
	a->map = map;
	a->vs = kf_tokenizer_size(source);
	a->vt = kf_tokenizer_size(target);
	a->src_eos = kf_tokenizer_eos(source);
	a->tgt_eos = kf_tokenizer_eos(target);
	a->src_dummy = kf_tokenizer_dummy_prefix(source);
	a->tgt_dummy = kf_tokenizer_dummy_prefix(target);

	a->off = kf_alloc((size_t)a->vs + 1, sizeof *a->off);
	a->first = kf_alloc((size_t)a->vs, sizeof *a->first);
	if (!a->off || !a->first) goto nomem;
	for (int32_t id = 0; id < a->vs; id++) {
		uint32_t n = 0;

		if (id != a->src_eos && !kf_tokenizer_is_control(source, id)) (void)kf_tokenizer_bytes(source, id, &n);
		a->off[id] = (uint32_t)total;
		total += n;
		if (total > UINT32_MAX / 8) {
			rc = kf_fail(err, KF_EDATA, "the source's vocabulary has too many bytes");
			goto fail;
		}
		atomic_init(&a->first[id], ALIGN_UNSET);
	}
	a->off[a->vs] = (uint32_t)total;
	/* eight more, so that short comparisons may read words */
	a->bytes = kf_zalloc(total + 8, 1);
	a->inner = kf_alloc(total, sizeof *a->inner);
	if (!a->bytes || !a->inner) goto nomem;
	for (int32_t id = 0; id < a->vs; id++) {
		uint32_t n;

		if (align_len(a, id)) memcpy(a->bytes + a->off[id], kf_tokenizer_bytes(source, id, &n), align_len(a, id));
	}
	for (uint64_t i = 0; i < total; i++) atomic_init(&a->inner[i], ALIGN_UNSET);
	if (method != KF_ALIGN_BYTE) {
		bool chat = method == KF_ALIGN_DTW_CHAT;

		rc = align_lexicon_new(source, target, chat ? ALIGN_SPELL_TEXT : ALIGN_SPELL_VOCAB, chat, &a->lexicon, err);
		if (rc != KF_OK) goto fail;
	}
	if (method != KF_ALIGN_BYTE || map != KF_ALIGN_PREFIX) {
		if (!(a->exact = kf_alloc((size_t)a->vs, sizeof *a->exact))) goto nomem;
		if ((rc = align_exact(source, target, a->exact, err)) != KF_OK) goto fail;
	}
	if (map != KF_ALIGN_PREFIX) {
		if (!(a->image = kf_alloc((size_t)a->vs, sizeof *a->image))) goto nomem;
		memcpy(a->image, a->exact, (size_t)a->vs * sizeof *a->image);
	}
	a->ready = map == KF_ALIGN_PREFIX || map == KF_ALIGN_EXACT;
	*out = a;
	return KF_OK;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for the maps of a vocabulary of %d tokens", (int)a->vs);
fail:
	kf_aligner_free(a);
	return rc;
}

void kf_aligner_free(kf_aligner *a)
{
	if (!a) return;
	align_lexicon_free(a->lexicon);
	kf_free(a->image);
	kf_free(a->exact);
	kf_free(a->inner);
	kf_free(a->first);
	kf_free(a->bytes);
	kf_free(a->off);
	kf_free(a);
}
