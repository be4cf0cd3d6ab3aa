#include <inttypes.h>
#include <stdio.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "import/import.h"

static struct {
	kf_import_opts x;
	kf_list inputs;
	int format, precision;
	kf_common common;
} o = { .x = { .top_k = 10 } };

static const kf_opt table[] = {
	{ "corpus", KF_OPT_STRING, &o.x.corpus, "DIR", "the text, as kf-prepare wrote it", 0, 0, KF_OPT_REQUIRED },
	{ "input", KF_OPT_LIST, &o.inputs, "FILE", "JSON Lines, or a folder of *.jsonl; may be given again", 0, 0, KF_OPT_REQUIRED },
	{ "tokenizer", KF_OPT_STRING, &o.x.tokenizer, "PATH", "of the model: a Hugging Face folder, its tokenizer.json, or a GGUF file", 0, 0,
		KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.x.out, "DIR", "where the logits go", 0, 0, KF_OPT_REQUIRED },
	{ "top-k", KF_OPT_INT, &o.x.top_k, "K", "candidates kept a position", 1, 65535, KF_OPT_SHAPES },
	{ "format", KF_OPT_CHOICE, &o.format, "auto|jsonl|vllm|openai", "form of the records; auto: each by what it has", 0, 0, KF_OPT_SHAPES },
	{ "name", KF_OPT_STRING, &o.x.name, "NAME", "of the model, for reports", 0, 0, 0 },
	{ "precision", KF_OPT_CHOICE, &o.precision, "packed|f32", "how numbers are stored: packed within 1/32 and 1/512 nat, or as they are",
		0, 0, KF_OPT_SHAPES },
	KF_OPT_REPLACE(&o.x.replace),
	KF_OPT_SHARD(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-import", "make a logits set of log-probabilities that another program computed",
	"--corpus DIR --input FILE --tokenizer PATH --out DIR [options]",
	"Input has a record for every document of the corpus, in any order; docs/import.md tells the forms.", table, false, true
};

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_import_stats s;
	kf_pool *pool = NULL;
	kf_status rc;

	(void)operands;
	o.x.inputs = o.inputs.item;
	o.x.n_inputs = o.inputs.n;
	o.x.format = (kf_import_format)o.format;
	o.x.f32 = o.precision == 1;
	o.x.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress;
	if ((rc = kf_parse_part("shard", o.common.shard, &o.x.part, &o.x.parts, err)) != KF_OK) return rc;
	if (!(o.x.record = kf_opt_record(&program))) return kf_fail(err, KF_ENOMEM, "no memory for the options' record");
	if ((rc = kf_pool_new((int)o.common.threads, &pool, err)) == KF_OK) rc = kf_import(&o.x, pool, &s, err);
	kf_pool_free(pool);
	json_decref(o.x.record);
	if (rc != KF_OK || o.common.quiet) return rc;
	if (s.state == KF_SET_CURRENT) {
		printf("%s: up to date\n", o.x.out);
		return KF_OK;
	}
	if (!s.path)
		fprintf(stderr, "kf-import: notice: the records have no masses inside tokens: kf-align --method byte will use lower bounds\n");
	if (s.nameless)
		fprintf(stderr, "kf-import: notice: %" PRIu64 " of %" PRIu64 " candidates name no token of the vocabulary, and are left out. The first: %s. "
			"If they are many, look whether --tokenizer is that of the model that was asked; where the other program has ids, give these instead\n",
			s.nameless, s.candidates, s.first_nameless);
	if (s.beyond)
		fprintf(stderr, "kf-import: notice: %" PRIu64 " of %" PRIu64 " candidates have ids that the tokenizer has not\n", s.beyond, s.candidates);
	if (s.full < s.positions)
		fprintf(stderr, "kf-import: notice: %" PRIu64 " of %" PRIu64 " positions have fewer than %ld candidates\n", s.positions - s.full,
			s.positions, o.x.top_k);
	printf("%s: %" PRIu64 " tokens of %" PRIu64 " documents%s\n", o.x.out, s.tokens, s.documents,
		s.complete ? "" : "; other parts of the corpus are still to do");
	return KF_OK;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
