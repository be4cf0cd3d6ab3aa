#include <inttypes.h>
#include <stdio.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/ops/backend.h"
#include "generate/generate.h"

static struct {
	kf_generate_opts g;
	int keep, compute;
	long cache_mb;
	kf_common common;
} o = { .g = { .texts = 4, .tokens = 256, .prompt_bytes = 64, .temperature = 0.8, .top_p = 0.95 }, .cache_mb = 1024 };

static const kf_opt table[] = {
	{ "model", KF_OPT_STRING, &o.g.model, "PATH", "the model: a Hugging Face folder or a GGUF file", 0, 0, KF_OPT_REQUIRED },
	{ "corpus", KF_OPT_STRING, &o.g.corpus, "DIR", "the text, as kf-prepare wrote it", 0, 0, KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.g.out, "DIR", "where the corpus with what is generated goes", 0, 0, KF_OPT_REQUIRED },
	{ "texts", KF_OPT_INT, &o.g.texts, "N", "generated for each document", 1, 1000, KF_OPT_SHAPES },
	{ "tokens", KF_OPT_INT, &o.g.tokens, "N", "of each text, at most", 1, 1 << 20, KF_OPT_SHAPES },
	{ "prompt-bytes", KF_OPT_INT, &o.g.prompt_bytes, "N", "of the document, from a place at random, that a text begins with", 1, 1 << 20, KF_OPT_SHAPES },
	{ "temperature", KF_OPT_REAL, &o.g.temperature, "X", "0 takes the likeliest token", 0, 100, KF_OPT_SHAPES },
	{ "top-p", KF_OPT_REAL, &o.g.top_p, "P", "sample among the likeliest tokens that make up P", 0, 1, KF_OPT_POSITIVE | KF_OPT_SHAPES },
	{ "keep", KF_OPT_CHOICE, &o.keep, "yes|no", "the documents themselves, too", 0, 0, KF_OPT_SHAPES },
	{ "chat-template", KF_OPT_STRING, &o.g.chat_template, "NAME", "of conversations: the template to render them with, "
		"if not the model's own", 0, 0, 0 },
	{ "compute", KF_OPT_CHOICE, &o.compute, "auto|f32|bf16", "matrix products; auto is bf16 where the processor has it, and on CUDA", 0, 0, 0 },
	{ "cache-mb", KF_OPT_INT, &o.cache_mb, "MB", "of keys and values", 1, 1e7, 0 },
	KF_OPT_REPLACE(&o.g.replace),
	KF_OPT_BACKEND(&o.common),
	KF_OPT_SHARD(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-generate", "more text to learn from: a model goes on with passages of a corpus", "--model PATH --corpus DIR --out DIR [options]",
	"The domain of what is generated is that of its document with \"" KF_GENERATED "\" behind it. Such documents are passed on as they\n"
	"are, so that several models may add to a corpus one after the other.\n"
	"Of a conversation one of the assistant's replies is made anew, and what follows it left out.", table, false, true
};

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_generate_stats s;
	kf_status rc;

	(void)operands;
	if ((rc = kf_backend(o.common.backend, &o.g.ops, &o.compute, err)) != KF_OK) return rc;
	if ((rc = kf_parse_part("shard", o.common.shard, &o.g.part, &o.g.parts, err)) != KF_OK) return rc;
	o.g.keep = o.keep == 0;
	o.g.compute = (kf_compute)o.compute;
	o.g.cache_bytes = (size_t)o.cache_mb << 20;
	o.g.seed = (uint64_t)o.common.seed;
	o.g.threads = (int)o.common.threads;
	o.g.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress;
	if (!(o.g.record = kf_opt_record(&program))) return kf_fail(err, KF_ENOMEM, "out of memory");
	rc = kf_generate(&o.g, &s, err);
	json_decref(o.g.record);
	if (rc != KF_OK || o.common.quiet) return rc;
	if (s.no_conversations && o.g.chat_template)
		fprintf(stderr, "kf-generate: notice: %s has no conversations: --chat-template %s changes nothing\n", o.g.corpus, o.g.chat_template);
	if (s.no_room)
		fprintf(stderr, "kf-generate: notice: %" PRIu64 " texts were not made: what they go on from fills the model's context\n", s.no_room);
	if (s.empty) fprintf(stderr, "kf-generate: notice: %" PRIu64 " texts ended at once and were left out\n", s.empty);
	if (s.state == KF_SET_CURRENT) printf("%s: up to date\n", o.g.out);
	else
		printf("%s: %" PRIu64 " texts from %" PRIu64 " documents, %" PRIu64 " tokens, %" PRIu64 " bytes, %.0f tokens a second%s\n", o.g.out,
			s.texts, s.documents, s.tokens, s.bytes, s.seconds > 0 ? (double)s.tokens / s.seconds : 0,
			s.complete ? "" : "; other parts of the corpus are still to do");
	return KF_OK;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
