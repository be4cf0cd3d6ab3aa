/* Encoding by the SentencePiece library: unigram models, and those whose normaliser changes characters. */
#include "common/text/internal.h"

static kf_status load(const kf_tokenizer *t, bool plain, void **lib, kf_err *err)
{
	kf_buf proto = { 0 };
	char why[256] = "";
	kf_status rc = kf_spm_serialise(t, plain, &proto, err);

	if (rc == KF_OK && !(*lib = kf_spm_load(proto.data, proto.len, why, sizeof why)))
		rc = kf_fail(err, KF_EDATA, "the SentencePiece library refuses the tokenizer's model: %s", why);
	kf_buf_release(&proto);
	return rc;
}

kf_status kf_splib_load(kf_tokenizer *t, kf_err *err)
{
	kf_status rc = load(t, false, &t->sp.lib, err);
	return rc ? rc : load(t, true, &t->sp.lib_plain, err);
}

typedef struct {
	const kf_tokenizer *t;
	kf_sink *sink;
	size_t shift, n;
	uint32_t run;           /* where the character begins whose bytes are being given, UINT32_MAX: none */
	bool failed;
} job;

/* The bytes of a character that became byte pieces all begin where it does: count them up. */
static void found(void *arg, int32_t id, uint32_t begin, uint32_t end)
{
	job *j = arg;
	kf_sink *s = j->sink;

	(void)end;
	if (id < 0 || id >= j->t->n || begin > j->n)
		j->failed = true;
	if (j->failed)
		return;
	uint32_t at = (uint32_t)j->shift + begin;
	if (j->t->type[id] != KF_TT_BYTE) {
		j->run = UINT32_MAX;
	} else if (j->run == at && s->n) {
		if (s->start[s->n - 1] + 1 < j->shift + j->n)
			at = s->start[s->n - 1] + 1;
	} else {
		j->run = at;
	}
	/* A character of which less remains than its normal form has bytes. */
	for (uint32_t i = s->n; i && s->start[i - 1] > at; i--)
		s->start[i - 1] = at;
	kf_sink_put(s, id, at);
}

kf_status kf_splib_encode(const kf_tokenizer *t, const uint8_t *text, size_t n, size_t shift, kf_sink *sink, kf_err *err)
{
	job j = { t, sink, shift, n, UINT32_MAX, false };
	char why[256] = "it names a piece that is not in the vocabulary";

	if (!kf_spm_encode(t->sp.lib, text, n, found, &j, why, sizeof why) || j.failed)
		return kf_fail(err, KF_EDATA, "the SentencePiece library cannot encode a text of %zu bytes: %s", n, why);
	if (sink->failed)
		return kf_fail(err, KF_ENOMEM, "no memory to encode %zu bytes of text", n);
	return KF_OK;
}

static void first(void *arg, int32_t id, uint32_t begin, uint32_t end)
{
	int32_t *out = arg;
	(void)begin;
	(void)end;
	if (*out < 0)
		*out = id;
}

int32_t kf_splib_first(const kf_tokenizer *t, const uint8_t *p, size_t n)
{
	size_t ok = kf_utf8_valid(p, n);
	int32_t id = -1;
	char why[64];

	if (ok == 0)
		return t->sp.byte_id[p[0]];
	if (!kf_spm_encode(t->sp.lib_plain, p, ok, first, &id, why, sizeof why) || id < 0 || id >= t->n || id == t->unk)
		return -1;
	return id;
}
