/* Vocabularies as bytes: what every token stands for in text, and the tokens in byte order. */
#include <stdlib.h>

#include "common/text/internal.h"

kf_status kf_vocab_pieces(kf_tokenizer *t, int32_t n, const char *const *pieces, const int32_t *types, kf_err *err)
{
	if (n < 1 || n > KF_VOCAB_MAX)
		return kf_fail(err, KF_EDATA, "a vocabulary of %d tokens is not within 1 to %d", (int)n, KF_VOCAB_MAX);
	size_t total = 0;
	for (int32_t i = 0; i < n; i++) {
		size_t l = strlen(pieces[i]);
		if (l > KF_PIECE_MAX)
			return kf_fail(err, KF_EDATA, "token %d of the vocabulary is %zu bytes long; at most %d are believed",
				(int)i, l, KF_PIECE_MAX);
		if (kf_utf8_valid((const uint8_t *)pieces[i], l) != l)
			return kf_fail(err, KF_EDATA, "token %d of the vocabulary is not valid UTF-8", (int)i);
		total += l + 1;
	}
	if (total > UINT32_MAX)
		return kf_fail(err, KF_EDATA, "the vocabulary's pieces take %zu bytes, more than 4 GiB", total);
	t->n = n;
	t->type = kf_alloc((size_t)n, 1);
	t->flags = kf_zalloc((size_t)n, 1);
	t->piece_off = kf_alloc((size_t)n + 1, sizeof *t->piece_off);
	t->piece_pool = kf_alloc(total, 1);
	if (!t->type || !t->flags || !t->piece_off || !t->piece_pool)
		return kf_fail(err, KF_ENOMEM, "no memory for a vocabulary of %d tokens", (int)n);
	size_t at = 0;
	for (int32_t i = 0; i < n; i++) {
		size_t l = strlen(pieces[i]) + 1;
		int32_t type = types ? types[i] : KF_TT_NORMAL;
		if (type == 0) /* GGUF's "undefined" */
			type = KF_TT_NORMAL;
		if (type < KF_TT_NORMAL || type > KF_TT_BYTE)
			return kf_fail(err, KF_EDATA, "token %d of the vocabulary has the unknown type %d", (int)i, (int)type);
		t->type[i] = (uint8_t)type;
		t->piece_off[i] = (uint32_t)at;
		memcpy(t->piece_pool + at, pieces[i], l);
		at += l;
	}
	t->piece_off[n] = (uint32_t)at;
	return KF_OK;
}

int kf_byte_piece(const char *s)
{
	if (strlen(s) != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
		return -1;
	int v = 0;
	for (int i = 3; i < 5; i++) {
		char c = s[i];
		int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
			: c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

/* The bytes of a token into out (room for strlen(piece)); returns how many. */
static size_t token_bytes(const kf_tokenizer *t, int32_t id, uint8_t *out)
{
	const uint8_t *p = (const uint8_t *)kf_tokenizer_piece(t, id);
	size_t n = t->piece_off[id + 1] - t->piece_off[id] - 1, k = 0;
	int b;

	if (t->type[id] == KF_TT_CONTROL || t->type[id] == KF_TT_UNKNOWN)
		return 0;
	if (t->kind == KF_TOK_SENTENCEPIECE) {
		if (t->type[id] == KF_TT_BYTE && (b = kf_byte_piece((const char *)p)) >= 0) {
			out[0] = (uint8_t)b;
			return 1;
		}
		for (size_t i = 0; i < n;) {
			if (!(t->flags[id] & KF_AT_RAW) && n - i >= 3 && p[i] == 0xe2 && p[i + 1] == 0x96 && p[i + 2] == 0x81) {
				out[k++] = ' ';
				i += 3;
			} else {
				out[k++] = p[i++];
			}
		}
		return k;
	}
	if (t->type[id] == KF_TT_UNUSED)
		return 0; /* rows that only pad the matrix */
	if (t->type[id] == KF_TT_NORMAL) {
		/* A piece with any character that stands for no byte is literal, as in Hugging Face's decoder. */
		size_t i = 0;
		while (i < n) {
			unsigned l = kf_utf8_len(p + i, n - i);
			if (l == 0 || (b = kf_char_byte(kf_utf8_code(p + i, l))) < 0)
				break;
			out[k++] = (uint8_t)b;
			i += l;
		}
		if (i == n)
			return k;
	}
	memcpy(out, p, n);
	return n;
}

typedef struct { uint64_t head; const uint8_t *p; uint32_t n; int32_t id; } sort_item;

static int by_bytes(const void *pa, const void *pb)
{
	const sort_item *a = pa, *b = pb;
	if (a->head != b->head)
		return a->head < b->head ? -1 : 1;
	int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);
	if (c)
		return c;
	if (a->n != b->n)
		return a->n < b->n ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

kf_status kf_vocab_index(kf_tokenizer *t, kf_err *err)
{
	size_t n = (size_t)t->n, pool = t->piece_off[t->n], at = 0;
	kf_status rc = KF_OK;
	uint8_t *tmp = kf_alloc(pool, 1);
	sort_item *it = kf_alloc(n, sizeof *it);
	t->byte_off = kf_alloc(n, sizeof *t->byte_off);
	t->byte_len = kf_alloc(n, sizeof *t->byte_len);
	t->sorted = kf_alloc(n, sizeof *t->sorted);
	t->range2 = kf_alloc(65537, sizeof *t->range2);
	if (!tmp || !it || !t->byte_off || !t->byte_len || !t->sorted || !t->range2)
		goto nomem;
	int32_t k = 0;
	for (int32_t i = 0; i < t->n; i++) {
		uint32_t l = (uint32_t)token_bytes(t, i, tmp + at);
		t->byte_off[i] = 0;
		t->byte_len[i] = l;
		if (!l)
			continue;
		uint64_t head = 0;
		for (unsigned b = 0; b < 8; b++)
			head = head << 8 | (b < l ? tmp[at + b] : 0);
		it[k++] = (sort_item){ head, tmp + at, l, i };
		at += l;
	}
	t->n_bytes = k;
	t->byte_pool = kf_alloc(at + 8, 1);
	t->head = kf_alloc((size_t)k, sizeof *t->head);
	if (!t->byte_pool || !t->head)
		goto nomem;
	qsort(it, (size_t)k, sizeof *it, by_bytes);
	at = 0;
	uint32_t next = 0;
	for (int32_t i = 0; i < k; i++) {
		t->sorted[i] = it[i].id;
		t->head[i] = it[i].head;
		t->byte_off[it[i].id] = (uint32_t)at;
		memcpy(t->byte_pool + at, it[i].p, it[i].n);
		at += it[i].n;
		/* A single byte sorts before all pairs it begins. */
		uint32_t key = (uint32_t)it[i].p[0] << 8 | (it[i].n > 1 ? it[i].p[1] : 0);
		while (next <= key)
			t->range2[next++] = i;
	}
	while (next <= 65536)
		t->range2[next++] = k;
	int32_t rest = k;
	for (int32_t i = 0; i < t->n; i++)
		if (!t->byte_len[i])
			t->sorted[rest++] = i;
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory to index a vocabulary of %d tokens", (int)t->n);
out:
	kf_free(tmp);
	kf_free(it);
	return rc;
}

const int32_t *kf_tokenizer_sorted(const kf_tokenizer *t, int32_t *n_bytes)
{
	if (n_bytes)
		*n_bytes = t->n_bytes;
	return t->sorted;
}

/* First of sorted [lo, hi) whose bytes, cut to n > 8, are >= p (after: > p); all of [lo, hi) share the first eight. */
static int32_t bound(const kf_tokenizer *t, int32_t lo, int32_t hi, const uint8_t *p, size_t n, bool after)
{
	while (lo < hi) {
		int32_t m = lo + (hi - lo) / 2, id = t->sorted[m];
		size_t l = t->byte_len[id], k = l < n ? l : n;
		int c = k > 8 ? memcmp(t->byte_pool + t->byte_off[id] + 8, p + 8, k - 8) : 0;
		if (c == 0 && l < n)
			c = -1;
		if (c < 0 || (after && c == 0))
			lo = m + 1;
		else
			hi = m;
	}
	return lo;
}

static int32_t head_bound(const kf_tokenizer *t, int32_t lo, int32_t hi, uint64_t least)
{
	while (lo < hi) {
		int32_t m = lo + (hi - lo) / 2;
		if (t->head[m] < least)
			lo = m + 1;
		else
			hi = m;
	}
	return lo;
}

void kf_tokenizer_range(const kf_tokenizer *t, const uint8_t *bytes, size_t n, int32_t *lo, int32_t *hi)
{
	if (n == 0) {
		*lo = 0;
		*hi = t->n_bytes;
		return;
	}
	uint32_t key = (uint32_t)bytes[0] << 8;
	if (n == 1) {
		*lo = t->range2[key];
		*hi = t->range2[key + 256];
		return;
	}
	key |= bytes[1];
	int32_t a = t->range2[key], b = t->range2[key + 1];
	if (n > 2) {
		uint64_t least = 0, most;
		unsigned k = n < 8 ? (unsigned)n : 8;
		for (unsigned i = 0; i < k; i++)
			least |= (uint64_t)bytes[i] << (56 - 8 * i);
		most = k == 8 ? least : least | UINT64_MAX >> 8 * k;
		a = head_bound(t, a, b, least);
		b = most == UINT64_MAX ? b : head_bound(t, a, b, most + 1);
	}
	/* A head pads with zeros: shorter tokens, which come first, may stand among those with zero bytes. */
	while (a < b && t->byte_len[t->sorted[a]] < (n < 8 ? n : 8))
		a++;
	if (n > 8) {
		a = bound(t, a, b, bytes, n, false);
		b = bound(t, a, b, bytes, n, true);
	}
	*lo = a;
	*hi = b;
}

int32_t kf_vocab_find(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	int32_t lo, hi;
	if (n == 0)
		return -1;
	kf_tokenizer_range(t, p, n, &lo, &hi);
	return lo < hi && t->byte_len[t->sorted[lo]] == n ? t->sorted[lo] : -1;
}
