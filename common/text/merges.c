/* Merges: which two tokens become one, and in what order. Byte-level BPE, and SentencePiece's BPE as tokenizer.json has it. */
#include <sys/random.h>

#include "common/text/internal.h"

kf_status kf_merges_make(kf_tokenizer *t, const int32_t *left, const int32_t *right, int32_t n, kf_err *err)
{
	kf_merges *m = &t->merges;
	uint64_t cap = 16;
	uint8_t buf[256];
	uint8_t *joined = buf, *big = NULL;
	size_t n_big = sizeof buf;
	kf_status rc = KF_OK;

	while (cap < (uint64_t)n * 2)
		cap *= 2;
	m->left = kf_alloc((size_t)n, sizeof *m->left);
	m->right = kf_alloc((size_t)n, sizeof *m->right);
	m->made = kf_alloc((size_t)n, sizeof *m->made);
	m->slot = kf_zalloc(cap, sizeof *m->slot);
	m->mask = cap - 1;
	if (getrandom(&m->seed, sizeof m->seed, GRND_NONBLOCK) != sizeof m->seed)
		m->seed = (uintptr_t)m->slot;
	if (!m->left || !m->right || !m->made || !m->slot)
		return kf_fail(err, KF_ENOMEM, "no memory for %d merges", (int)n);
	for (int32_t i = 0; i < n; i++) {
		int32_t l = left[i], r = right[i];
		size_t nl = t->byte_len[l], nr = t->byte_len[r];
		if (nl + nr > n_big) {
			kf_free(big);
			n_big = (nl + nr) * 2;
			if (!(joined = big = kf_alloc(n_big, 1)))
				return kf_fail(err, KF_ENOMEM, "no memory for a token of %zu bytes", nl + nr);
		}
		memcpy(joined, t->byte_pool + t->byte_off[l], nl);
		memcpy(joined + nl, t->byte_pool + t->byte_off[r], nr);
		int32_t made = -1, lo, hi;
		kf_tokenizer_range(t, joined, nl + nr, &lo, &hi);
		for (; lo < hi && t->byte_len[t->sorted[lo]] == nl + nr; lo++) {
			int32_t id = t->sorted[lo];
			if (made < 0 || (t->type[made] != KF_TT_NORMAL && t->type[id] == KF_TT_NORMAL))
				made = id; /* an ordinary token before one that was added besides */
		}
		if (made < 0) {
			rc = kf_fail(err, KF_EDATA, "merge %d, of \"%.60s\" and \"%.60s\", makes a token that the vocabulary lacks",
				(int)i, kf_tokenizer_piece(t, l), kf_tokenizer_piece(t, r));
			break;
		}
		m->left[i] = l;
		m->right[i] = r;
		m->made[i] = made;
		m->n = i + 1;
		uint64_t h = kf_merge_hash(m, l, r);
		while (m->slot[h & m->mask]) {
			uint32_t s = m->slot[h & m->mask] - 1;
			if (m->left[s] == l && m->right[s] == r)
				break; /* given twice: the later rank counts, as in a map that is filled in order */
			h++;
		}
		m->slot[h & m->mask] = (uint32_t)i + 1;
	}
	kf_free(big);
	return rc;
}

void kf_merges_release(kf_merges *m)
{
	kf_free(m->left);
	kf_free(m->right);
	kf_free(m->made);
	kf_free(m->slot);
}

/* ---- by name ------------------------------------------------------------------------- */

/* Pieces to ids: open addressing on their spelling. */
typedef struct { uint32_t *slot; uint64_t mask; const kf_tokenizer *t; } piece_map;

static int32_t piece_id(const piece_map *m, const char *s, size_t n)
{
	for (uint64_t h = kf_hash64(s, n);; h++) {
		uint32_t v = m->slot[h & m->mask];
		if (!v)
			return -1;
		const char *q = kf_tokenizer_piece(m->t, (int32_t)v - 1);
		if (strncmp(q, s, n) == 0 && q[n] == 0)
			return (int32_t)v - 1;
	}
}

/* Whether text can be made of this token: of SentencePiece's, no control token's spelling and no byte's. */
static bool of_text(const kf_tokenizer *t, int32_t id)
{
	return t->kind == KF_TOK_BPE || t->type[id] == KF_TT_NORMAL || t->type[id] == KF_TT_USER;
}

kf_status kf_merges_read(kf_tokenizer *t, const char *const *merges, int32_t n, kf_err *err)
{
	piece_map m = { NULL, 15, t };
	int32_t *left = NULL, *right = NULL, k = 0;
	kf_buf joined = { 0 };
	kf_status rc = KF_OK;

	if (n < 0 || n > KF_VOCAB_MAX || (n && !merges))
		return kf_fail(err, KF_EDATA, "the tokenizer has %d merges, not within 0 to %d", (int)n, KF_VOCAB_MAX);
	while (m.mask < (uint64_t)t->n * 2)
		m.mask = m.mask * 2 + 1;
	m.slot = kf_zalloc(m.mask + 1, sizeof *m.slot);
	left = kf_alloc((size_t)n, sizeof *left);
	right = kf_alloc((size_t)n, sizeof *right);
	if (!m.slot || !left || !right) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a vocabulary of %d tokens", (int)t->n);
		goto out;
	}
	/* Of equal pieces an ordinary token comes first, then the least id. */
	for (int pass = 0; pass < 2; pass++)
		for (int32_t i = 0; i < t->n; i++) {
			const char *q = kf_tokenizer_piece(t, i);
			size_t l = strlen(q);
			if ((t->type[i] == KF_TT_NORMAL) != (pass == 0) || piece_id(&m, q, l) >= 0)
				continue;
			uint64_t h = kf_hash64(q, l);
			while (m.slot[h & m.mask])
				h++;
			m.slot[h & m.mask] = (uint32_t)i + 1;
		}
	for (int32_t i = 0; i < n; i++) {
		const char *s = merges[i], *gap = strchr(s, ' ');
		if (!gap || gap == s || !gap[1] || strchr(gap + 1, ' ')) {
			rc = kf_fail(err, KF_EDATA, "merge %d of the tokenizer, \"%.60s\", is not two pieces with a space between", (int)i, s);
			goto out;
		}
		size_t nl = (size_t)(gap - s), nr = strlen(gap + 1);
		kf_buf_clear(&joined);
		kf_buf_put(&joined, s, nl);
		kf_buf_put(&joined, gap + 1, nr);
		if ((rc = kf_buf_check(&joined, err)) != KF_OK)
			goto out;
		int32_t l = piece_id(&m, s, nl), r = piece_id(&m, gap + 1, nr);
		int32_t made = piece_id(&m, (const char *)joined.data, joined.len);
		if (l < 0 || r < 0) {
			rc = kf_fail(err, KF_EDATA, "merge %d of the tokenizer, \"%.60s\", joins a piece that the vocabulary lacks", (int)i, s);
			goto out;
		}
		if (t->kind == KF_TOK_SENTENCEPIECE && made < 0) {
			rc = kf_fail(err, KF_EDATA, "merge %d of the tokenizer, \"%.60s\", makes a token that the vocabulary lacks", (int)i, s);
			goto out;
		}
		if (!of_text(t, l) || !of_text(t, r) || (made >= 0 && !of_text(t, made)))
			continue;
		left[k] = l;
		right[k++] = r;
	}
	rc = kf_merges_make(t, left, right, k, err);
out:
	kf_buf_release(&joined);
	kf_free(m.slot);
	kf_free(left);
	kf_free(right);
	return rc;
}
