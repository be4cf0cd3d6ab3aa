/* The public face: making a tokenizer from a vocabulary, asking it, encoding. */
#include "common/text/internal.h"

kf_tokenizer *kf_tokenizer_blank(kf_tok_kind kind)
{
	kf_tokenizer *t = kf_zalloc(1, sizeof *t);
	if (t) {
		t->kind = kind;
		t->bos = t->eos = t->unk = t->pad = -1;
		t->bpe.unk = -1;
	}
	return t;
}

void kf_tokenizer_free(kf_tokenizer *t)
{
	if (!t)
		return;
	kf_merges_release(&t->merges);
	kf_bpe_release(&t->bpe);
	kf_sp_release(&t->sp);
	kf_wcache_free(t->words);
	kf_wcache_free(t->firsts);
	kf_free(t->type);
	kf_free(t->flags);
	kf_free(t->piece_pool);
	kf_free(t->piece_off);
	kf_free(t->byte_pool);
	kf_free(t->byte_off);
	kf_free(t->byte_len);
	kf_free(t->sorted);
	kf_free(t->head);
	kf_free(t->range2);
	kf_free(t->hf_class);
	kf_free(t->chat_template);
	json_decref(t->chat_templates);
	json_decref(t->settings);
	kf_free(t);
}

kf_status kf_tokenizer_finish(kf_tokenizer *t, kf_err *err)
{
	kf_buf b = { 0 };
	kf_status rc = kf_tokenizer_canon(t, &b, err);

	if (rc == KF_OK) {
		t->fp = kf_fp_of(b.data, b.len);
		t->words = kf_wcache_new(16);
		t->firsts = kf_wcache_new(18);
		if (!t->words || !t->firsts)
			rc = kf_fail(err, KF_ENOMEM, "no memory for a tokenizer's caches");
	}
	kf_buf_release(&b);
	return rc;
}

kf_status kf_tokenizer_from_spec(const kf_vocab_spec *spec, kf_tokenizer **out, kf_err *err)
{
	const int32_t ids[] = { spec->bos, spec->eos, spec->pad, spec->unk };
	const char *model = spec->model ? spec->model : "";
	bool bpe = strcmp(model, "gpt2") == 0;
	kf_status rc;

	*out = NULL;
	if (!bpe && strcmp(model, "llama") != 0)
		return kf_fail(err, KF_EUNSUPPORTED,
			"the tokenizer model \"%s\" is not one that kfuse knows (gpt2: byte-level BPE, llama: SentencePiece)", model);
	if (bpe && !spec->pre)
		return kf_fail(err, KF_EUNSUPPORTED, "the vocabulary does not name its pre-tokenizer (tokenizer.ggml.pre)");
	for (int i = 0; i < 4; i++)
		if (ids[i] < -1 || ids[i] >= spec->n)
			return kf_fail(err, KF_EDATA, "the vocabulary's %s token is %d, but there are %d tokens",
				(const char *[]){ "BOS", "EOS", "padding", "unknown" }[i], (int)ids[i], (int)spec->n);
	if (spec->chat_template && kf_utf8_valid((const uint8_t *)spec->chat_template, strlen(spec->chat_template)) != strlen(spec->chat_template))
		return kf_fail(err, KF_EDATA, "the chat template is not UTF-8");
	kf_tokenizer *t = kf_tokenizer_blank(bpe ? KF_TOK_BPE : KF_TOK_SENTENCEPIECE);
	if (!t)
		return kf_fail(err, KF_ENOMEM, "no memory for a tokenizer");
	t->bos = spec->bos;
	t->eos = spec->eos;
	t->unk = spec->unk;
	t->pad = spec->pad;
	for (int i = 0; i < 4; i++)
		t->none |= (uint8_t)((ids[i] < 0) << i);
	t->add_bos = spec->add_bos && spec->bos >= 0;
	t->add_eos = spec->add_eos && spec->eos >= 0;
	rc = bpe ? kf_bpe_from_spec(t, spec, NULL, err) : kf_sp_from_spec(t, spec, err);
	if (rc == KF_OK && bpe && t->bpe.pretok.hf_class && !(t->hf_class = kf_strdup(t->bpe.pretok.hf_class)))
		rc = kf_fail(err, KF_ENOMEM, "no memory for a tokenizer");
	if (rc == KF_OK && spec->chat_template && !(t->chat_template = kf_strdup(spec->chat_template)))
		rc = kf_fail(err, KF_ENOMEM, "no memory for a tokenizer");
	if (rc == KF_OK)
		rc = kf_tokenizer_finish(t, err);
	if (rc != KF_OK) {
		kf_tokenizer_free(t);
		return rc;
	}
	*out = t;
	return KF_OK;
}

/* ---- asking ------------------------------------------------------------------------------ */

kf_tok_kind kf_tokenizer_kind(const kf_tokenizer *t) { return t->kind; }
kf_fp kf_tokenizer_fp(const kf_tokenizer *t) { return t->fp; }
int32_t kf_tokenizer_size(const kf_tokenizer *t) { return t->n; }
int32_t kf_tokenizer_bos(const kf_tokenizer *t) { return t->add_bos ? t->bos : -1; }
int32_t kf_tokenizer_eos(const kf_tokenizer *t) { return t->eos; }
const char *kf_tokenizer_chat_template(const kf_tokenizer *t) { return t->chat_template; }

kf_status kf_tokenizer_set_chat_template(kf_tokenizer *t, const char *text, kf_err *err)
{
	char *copy = kf_strdup(text);

	if (!copy)
		return kf_fail(err, KF_ENOMEM, "no memory for a chat template");
	kf_free(t->chat_template);
	json_decref(t->chat_templates);
	t->chat_templates = NULL;
	t->chat_template = copy;
	t->other_template = true;
	return KF_OK;
}

kf_status kf_tokenizer_take_chat_templates(kf_tokenizer *t, const kf_tokenizer *from, kf_err *err)
{
	kf_status rc = from->chat_template ? kf_tokenizer_set_chat_template(t, from->chat_template, err) : KF_OK;

	if (rc != KF_OK || !from->chat_templates)
		return rc;
	json_decref(t->chat_templates);
	t->chat_templates = json_incref(from->chat_templates);
	return KF_OK;
}

bool kf_tokenizer_same_chat_templates(const kf_tokenizer *a, const kf_tokenizer *b)
{
	if (!a->chat_templates != !b->chat_templates || (a->chat_templates && !json_equal(a->chat_templates, b->chat_templates)))
		return false;
	return a->chat_template && b->chat_template ? strcmp(a->chat_template, b->chat_template) == 0 : a->chat_template == b->chat_template;
}

const uint8_t *kf_tokenizer_bytes(const kf_tokenizer *t, int32_t id, uint32_t *n)
{
	if (id < 0 || id >= t->n) {
		*n = 0;
		return t->byte_pool;
	}
	*n = t->byte_len[id];
	return t->byte_pool + t->byte_off[id];
}

bool kf_tokenizer_is_control(const kf_tokenizer *t, int32_t id)
{
	return id >= 0 && id < t->n && t->type[id] == KF_TT_CONTROL;
}

int kf_tokenizer_named_ends(const kf_tokenizer *t, int32_t out[KF_NAMED_ENDS])
{
	/* Control tokens that are no end are legitimate within a text: of thoughts, of calls of tools. So names tell. */
	static const char *const names[KF_NAMED_ENDS] = { "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|endoftext|>",
		"<|end_of_text|>", "<|end_of_turn|>", "<|end|>", "<EOT>" };
	int n = 0;

	for (int32_t id = 0; id < t->n && n < KF_NAMED_ENDS; id++)
		for (int i = 0; i < KF_NAMED_ENDS && t->type[id] == KF_TT_CONTROL; i++)
			if (strcmp(kf_tokenizer_piece(t, id), names[i]) == 0) {
				out[n++] = id;
				break;
			}
	return n;
}

const char *kf_tokenizer_piece(const kf_tokenizer *t, int32_t id)
{
	return id < 0 || id >= t->n ? "" : t->piece_pool + t->piece_off[id];
}

bool kf_tokenizer_dummy_prefix(const kf_tokenizer *t)
{
	return t->kind == KF_TOK_BPE ? t->bpe.pretok.prefix_space : t->sp.dummy_prefix;
}

/* ---- encoding ---------------------------------------------------------------------------- */

bool kf_sink_grow(kf_sink *s, size_t more)
{
	size_t cap = (size_t)s->n + more;
	cap += cap / 2;
	if (s->failed || cap > UINT32_MAX)
		goto failed;
	int32_t *ids = KF_ARENA_NEW(s->arena, int32_t, cap);
	uint32_t *start = KF_ARENA_NEW(s->arena, uint32_t, cap + 1);
	if (!ids || !start)
		goto failed;
	if (s->n) {
		memcpy(ids, s->ids, s->n * sizeof *ids);
		memcpy(start, s->start, s->n * sizeof *start);
	}
	s->ids = ids;
	s->start = start;
	s->cap = (uint32_t)cap;
	return true;
failed:
	s->failed = true;
	return false;
}

static kf_status encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials, bool later,
	kf_arena *arena, kf_encoding *out, kf_err *err)
{
	kf_sink sink = { .arena = arena, .later = later };
	kf_status rc;

	memset(out, 0, sizeof *out);
	if (n > KF_TEXT_MAX)
		return kf_fail(err, KF_EINVAL, "a text of %zu bytes is too long to encode at once; at most %zu are taken",
			n, KF_TEXT_MAX);
	if (!kf_sink_grow(&sink, n / 4 + 16))
		return kf_fail(err, KF_ENOMEM, "no memory to encode %zu bytes of text", n);
	rc = t->kind == KF_TOK_BPE ? kf_bpe_encode(t, text, n, specials, &sink, err)
		: kf_sp_encode(t, text, n, specials, &sink, err);
	if (rc != KF_OK)
		return rc;
	if (sink.failed)
		return kf_fail(err, KF_ENOMEM, "no memory to encode %zu bytes of text", n);
	sink.start[sink.n] = (uint32_t)n;
	sink.start[0] = sink.n ? 0 : (uint32_t)n;
	out->n = sink.n;
	out->ids = sink.ids;
	out->start = sink.start;
	return KF_OK;
}

kf_status kf_tokenizer_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, bool specials,
	kf_arena *arena, kf_encoding *out, kf_err *err)
{
	return encode(t, text, n, specials, false, arena, out, err);
}

kf_status kf_tokenizer_encode_later(const kf_tokenizer *t, const uint8_t *text, size_t n, kf_arena *arena, kf_encoding *out,
	kf_err *err)
{
	return encode(t, text, n, false, true, arena, out, err);
}

int32_t kf_tokenizer_first(const kf_tokenizer *t, const uint8_t *bytes, size_t n)
{
	if (n == 0)
		return -1;
	uint64_t hash = kf_hash64(bytes, n);
	const kf_word *w = kf_wcache_get(t->firsts, hash, bytes, n);
	if (w)
		return kf_word_ids(w)[0];
	int32_t id = t->kind == KF_TOK_BPE ? kf_bpe_first(t, bytes, n) : kf_sp_first(t, bytes, n);
	kf_wcache_put(t->firsts, hash, bytes, n, &id, &(uint32_t){ 1 }, 1);
	return id;
}
