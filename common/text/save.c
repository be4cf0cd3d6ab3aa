/* The serialised form: everything that decides what a tokenizer does, little-endian.
 * docs/format.md has the layout. Reading trusts nothing: counts are checked against what is left before
 * anything is allocated, ids against the vocabulary, and the rest is built by the same code as
 * from any other source. */
#include "common/text/internal.h"

static const char magic[8] = "KFTOK\0\1"; /* the last but one is the version */
enum { VERSION_AT = 6 };

enum { F_ADD_BOS = 1, F_ADD_EOS = 2, F_NFC = 4, F_IGNORE_MERGES = 8, F_FUSE_UNK = 16, F_PREFIX = 32,
	F_SP_BPE = 64, F_REMOVE_SPACES = 128, F_UNLESS_SPACE = 256, F_PREFIX_FIRST = 512, F_RANKED = 1024, F_ALL = 2047 };
enum { STEP_INVERT = 1, STEP_CHARS = 2 }; /* of a pre-tokenizer's step */

/* CANON: without the name of a Python class and rows that only fill the matrix up. TEXT: without names that nothing of a text's encoding
 * hangs on, too: a base model and its chat model may call another token EOS. */
typedef enum { ALL, CANON, TEXT } part;

static void put_merges(kf_buf *out, const kf_merges *m)
{
	kf_buf_varint(out, (uint64_t)m->n);
	for (int32_t i = 0; i < m->n; i++) {
		kf_buf_varint(out, (uint64_t)m->left[i]);
		kf_buf_varint(out, (uint64_t)m->right[i]);
	}
}

static kf_status save(const kf_tokenizer *t, part what, kf_buf *out, kf_err *err)
{
	const bool canon = what != ALL;
	int32_t n = t->n;
	const kf_bpe *b = &t->bpe;
	const kf_sp *s = &t->sp;
	bool bpe = t->kind == KF_TOK_BPE;
	uint32_t flags = (t->add_bos ? F_ADD_BOS : 0) | (t->add_eos ? F_ADD_EOS : 0);

	if (bpe)
		flags |= (b->nfc ? F_NFC : 0) | (b->ignore_merges ? F_IGNORE_MERGES : 0) | (b->fuse_unk ? F_FUSE_UNK : 0)
			| (b->pretok.prefix_space ? F_PREFIX : 0);
	else
		flags |= (s->dummy_prefix ? F_PREFIX : 0) | (s->bpe ? F_SP_BPE : 0)
			| (s->remove_extra_spaces ? F_REMOVE_SPACES : 0) | (s->prefix_unless_space ? F_UNLESS_SPACE : 0)
			| (s->prefix_first ? F_PREFIX_FIRST : 0) | (s->ranked ? F_RANKED : 0);
	kf_buf_clear(out);
	kf_buf_put(out, magic, sizeof magic);
	kf_buf_u32(out, (uint32_t)t->kind);
	kf_buf_u32(out, flags);
	kf_buf_u32(out, (uint32_t)(what == TEXT && !t->add_bos ? -1 : t->bos));
	kf_buf_u32(out, (uint32_t)(what == TEXT && !t->add_eos ? -1 : t->eos));
	kf_buf_u32(out, (uint32_t)t->unk);
	kf_buf_u32(out, (uint32_t)(what == TEXT ? -1 : t->pad));
	kf_buf_str(out, t->hf_class && !canon ? t->hf_class : "");
	while (canon && bpe && n > 0 && t->type[n - 1] == KF_TT_UNUSED)
		n--;
	kf_buf_varint(out, (uint64_t)n);
	for (int32_t i = 0; i < n; i++) {
		kf_buf_u8(out, t->type[i]);
		kf_buf_u8(out, t->flags[i]);
		kf_buf_str(out, kf_tokenizer_piece(t, i));
	}
	if (bpe) {
		kf_buf_u32(out, (uint32_t)b->unk);
		put_merges(out, &t->merges);
		kf_buf_varint(out, (uint64_t)b->pretok.n);
		for (int i = 0; i < b->pretok.n; i++) {
			kf_buf_u8(out, (uint8_t)b->pretok.step[i].how);
			kf_buf_u8(out, (b->pretok.step[i].invert ? STEP_INVERT : 0) | (b->pretok.step[i].chars ? STEP_CHARS : 0));
			kf_buf_str(out, b->pretok.step[i].pattern);
		}
	} else {
		for (int32_t i = 0; i < t->n; i++)
			kf_buf_f32(out, s->score[i]);
		kf_buf_varint(out, s->n_charsmap);
		kf_buf_put(out, s->charsmap, s->n_charsmap);
		if (s->ranked)
			put_merges(out, &t->merges);
	}
	return kf_buf_check(out, err);
}

kf_status kf_tokenizer_save(const kf_tokenizer *t, kf_buf *out, kf_err *err)
{
	return save(t, ALL, out, err);
}

kf_status kf_tokenizer_canon(const kf_tokenizer *t, kf_buf *out, kf_err *err)
{
	return save(t, CANON, out, err);
}

kf_status kf_tokenizer_text_fp(const kf_tokenizer *t, kf_fp *out, kf_err *err)
{
	kf_buf b = { 0 };
	kf_status rc = save(t, TEXT, &b, err);

	if (rc == KF_OK)
		*out = kf_fp_of(b.data, b.len);
	kf_buf_release(&b);
	return rc;
}

/* ---- reading ----------------------------------------------------------------------------- */

/* NULL: what was read is bad, or else there is no memory. */
static const char *arena_str(kf_cur *c, kf_arena *a)
{
	size_t n;
	const char *s = kf_cur_str(c, &n);
	if (c->bad || memchr(s, 0, n)) {
		c->bad = true;
		return NULL;
	}
	return kf_arena_strdup(a, s, n);
}

/* Pairs of ids in arena memory. */
typedef struct { int32_t n, *left, *right; } pairs;

static kf_status load_pairs(const kf_tokenizer *t, kf_cur *c, kf_arena *a, pairs *out, kf_err *err)
{
	uint64_t n = kf_cur_varint(c);

	if (c->bad || n > kf_cur_left(c) / 2 || n > KF_VOCAB_MAX)
		return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its merges cannot be read");
	*out = (pairs){ (int32_t)n, KF_ARENA_NEW(a, int32_t, (size_t)n), KF_ARENA_NEW(a, int32_t, (size_t)n) };
	if (!out->left || !out->right)
		return kf_fail(err, KF_ENOMEM, "no memory for %llu merges", (unsigned long long)n);
	for (size_t i = 0; i < n; i++) {
		uint64_t l = kf_cur_varint(c), r = kf_cur_varint(c);
		if (c->bad || l >= (uint64_t)t->n || r >= (uint64_t)t->n)
			return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: merge %zu names no token", i);
		out->left[i] = (int32_t)l;
		out->right[i] = (int32_t)r;
	}
	return KF_OK;
}

static kf_status load_bpe(kf_tokenizer *t, kf_cur *c, kf_arena *a, kf_err *err)
{
	kf_bpe *b = &t->bpe;
	pairs m;
	kf_status rc;

	b->unk = (int32_t)kf_cur_u32(c);
	if (c->bad || b->unk < -1 || b->unk >= t->n)
		return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its unknown token cannot be read");
	if ((rc = load_pairs(t, c, a, &m, err)) != KF_OK)
		return rc;
	uint64_t steps = kf_cur_varint(c);
	if (c->bad || steps > KF_STEPS_MAX)
		return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its pre-tokenizer cannot be read");
	for (uint64_t i = 0; i < steps; i++) {
		uint8_t how = kf_cur_u8(c), flags = kf_cur_u8(c);
		const char *pattern = arena_str(c, a);
		if (c->bad || how > KF_SPLIT_CONTIGUOUS || flags > (STEP_INVERT | STEP_CHARS))
			return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its pre-tokenizer cannot be read");
		if (!pattern)
			return kf_fail(err, KF_ENOMEM, "no memory for a pre-tokenizer");
		b->pretok.chars |= flags & STEP_CHARS;
		if ((rc = kf_pretok_add(&b->pretok, pattern, (kf_split)how, flags & STEP_INVERT, err)) != KF_OK)
			return rc;
	}
	if ((rc = kf_vocab_index(t, err)) != KF_OK || (rc = kf_merges_make(t, m.left, m.right, m.n, err)) != KF_OK)
		return rc;
	return kf_bpe_init(t, err);
}

static kf_status load_sp(kf_tokenizer *t, kf_cur *c, kf_arena *a, kf_err *err)
{
	kf_sp *s = &t->sp;
	pairs m;
	kf_status rc;

	if ((uint64_t)t->n * 4 > kf_cur_left(c))
		return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its scores are cut short");
	s->score = kf_alloc((size_t)t->n, sizeof *s->score);
	if (!s->score)
		return kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model of %d pieces", (int)t->n);
	for (int32_t i = 0; i < t->n; i++)
		s->score[i] = kf_cur_f32(c);
	uint64_t n = kf_cur_varint(c);
	if (c->bad || n > kf_cur_left(c))
		return kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its character map is cut short");
	if (n) {
		if (!(s->charsmap = kf_alloc((size_t)n, 1)))
			return kf_fail(err, KF_ENOMEM, "no memory for a character map of %zu bytes", (size_t)n);
		memcpy(s->charsmap, kf_cur_bytes(c, (size_t)n), (size_t)n);
		s->n_charsmap = (size_t)n;
	}
	if ((rc = kf_sp_finish(t, err)) != KF_OK || !s->ranked || (rc = load_pairs(t, c, a, &m, err)) != KF_OK)
		return rc;
	return kf_merges_make(t, m.left, m.right, m.n, err);
}

kf_status kf_tokenizer_load(const void *data, size_t size, kf_tokenizer **out, kf_err *err)
{
	kf_cur c = kf_cur_of(data, size);
	kf_tokenizer *t = NULL;
	kf_arena a;
	kf_status rc = KF_OK;

	*out = NULL;
	kf_arena_init(&a);
	const uint8_t *m = kf_cur_bytes(&c, sizeof magic);
	if (c.bad || memcmp(m, magic, VERSION_AT) != 0) {
		rc = kf_fail(err, KF_EDATA, "these bytes are no stored tokenizer");
		goto out;
	}
	if (m[VERSION_AT] != (uint8_t)magic[VERSION_AT]) {
		rc = kf_fail(err, KF_EUNSUPPORTED, "a stored tokenizer is of format %u; this program reads format %u",
			m[VERSION_AT], (unsigned)magic[VERSION_AT]);
		goto out;
	}
	uint32_t kind = kf_cur_u32(&c), flags = kf_cur_u32(&c);
	if (c.bad || kind > KF_TOK_SENTENCEPIECE || flags > F_ALL) {
		rc = kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its kind cannot be read");
		goto out;
	}
	if (!(t = kf_tokenizer_blank((kf_tok_kind)kind))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a tokenizer");
		goto out;
	}
	int32_t *ids[] = { &t->bos, &t->eos, &t->unk, &t->pad };
	for (int i = 0; i < 4; i++)
		*ids[i] = (int32_t)kf_cur_u32(&c);
	const char *hf_class = arena_str(&c, &a);
	uint64_t n = kf_cur_varint(&c);
	if (c.bad || n < 1 || n > KF_VOCAB_MAX || n > kf_cur_left(&c) / 3) {
		rc = kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: its vocabulary cannot be read");
		goto out;
	}
	for (int i = 0; i < 4; i++)
		if (*ids[i] < -1 || *ids[i] >= (int64_t)n) {
			rc = kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: special token %d is not in its vocabulary", i);
			goto out;
		}
	t->add_bos = flags & F_ADD_BOS && t->bos >= 0;
	t->add_eos = flags & F_ADD_EOS && t->eos >= 0;
	if (!hf_class || (*hf_class && !(t->hf_class = kf_strdup(hf_class)))) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a tokenizer");
		goto out;
	}
	const char **piece = KF_ARENA_NEW(&a, const char *, (size_t)n);
	int32_t *type = KF_ARENA_NEW(&a, int32_t, (size_t)n);
	uint8_t *at = KF_ARENA_NEW(&a, uint8_t, (size_t)n);
	if (!piece || !type || !at) {
		rc = kf_fail(err, KF_ENOMEM, "no memory for a vocabulary of %zu tokens", (size_t)n);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		type[i] = kf_cur_u8(&c);
		at[i] = kf_cur_u8(&c);
		piece[i] = arena_str(&c, &a);
		if (c.bad) {
			rc = kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: token %zu cannot be read", i);
			goto out;
		}
		if (!piece[i]) {
			rc = kf_fail(err, KF_ENOMEM, "no memory for a vocabulary of %zu tokens", (size_t)n);
			goto out;
		}
	}
	if ((rc = kf_vocab_pieces(t, (int32_t)n, piece, type, err)) != KF_OK)
		goto out;
	memcpy(t->flags, at, (size_t)n);
	if (kind == KF_TOK_BPE) {
		t->bpe.nfc = flags & F_NFC;
		t->bpe.ignore_merges = flags & F_IGNORE_MERGES;
		t->bpe.fuse_unk = flags & F_FUSE_UNK;
		t->bpe.pretok.prefix_space = flags & F_PREFIX;
		rc = load_bpe(t, &c, &a, err);
	} else {
		t->sp.dummy_prefix = flags & F_PREFIX;
		t->sp.bpe = flags & F_SP_BPE;
		t->sp.remove_extra_spaces = flags & F_REMOVE_SPACES;
		t->sp.prefix_unless_space = flags & F_UNLESS_SPACE;
		t->sp.prefix_first = flags & F_PREFIX_FIRST;
		t->sp.ranked = flags & F_RANKED;
		rc = load_sp(t, &c, &a, err);
	}
	if (rc == KF_OK && kf_cur_left(&c))
		rc = kf_fail(err, KF_EDATA, "a stored tokenizer is damaged: %zu bytes follow its end", kf_cur_left(&c));
	if (rc == KF_OK)
		rc = kf_tokenizer_finish(t, err);
out:
	kf_arena_release(&a);
	if (rc != KF_OK)
		kf_tokenizer_free(t);
	else
		*out = t;
	return rc;
}
