#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/ops/backend.h"
#include "extract/extract.h"
#include "extract/plan.h"

static struct {
	kf_extract_opts x;
	int precision, byte_path, compute;
	bool plan, json;
	const char *int8;
	kf_common common;
} o = { .x = { .top_k = 10, .batch_tokens = 4096, .path_min = 3, .path_extra = 4 }, .int8 = "all" };

static const kf_opt table[] = {
	{ "model", KF_OPT_STRING, &o.x.model, "PATH", "the model: a Hugging Face folder or a GGUF file", 0, 0, KF_OPT_REQUIRED },
	{ "corpus", KF_OPT_STRING, &o.x.corpus, "DIR", "the text, as kf-prepare wrote it", 0, 0, KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.x.out, "DIR", "where the predictions go (required, but for --plan)", 0, 0, 0 },
	{ "name", KF_OPT_STRING, &o.x.name, "NAME", "of the model, for what comes of the set: kf-fuse, reports; else its folder's or file's", 0, 0, 0 },
	{ "chat-template", KF_OPT_STRING, &o.x.chat_template, "NAME", "of conversations: the template to render them with, "
		"if not the model's own", 0, 0, 0 },
	{ "top-k", KF_OPT_INT, &o.x.top_k, "K", "candidates kept a position", 1, 65535, KF_OPT_SHAPES },
	{ "byte-path", KF_OPT_CHOICE, &o.byte_path, "yes|no", "keep what alignment by bytes needs: masses inside tokens, and "
		"extra candidates for them", 0, 0, KF_OPT_SHAPES },
	{ "path-min", KF_OPT_INT, &o.x.path_min, "M", "candidates wanted for every byte inside a token", 0, 64, KF_OPT_SHAPES },
	{ "path-extra", KF_OPT_INT, &o.x.path_extra, "E", "extra candidates a position, at most, to have them", 0, 64, KF_OPT_SHAPES },
	{ "context", KF_OPT_INT, &o.x.context, "N", "longest sequence in tokens, 0 for the model's; longer documents are run in "
		"windows that overlap by half", 0, 1 << 24, KF_OPT_SHAPES },
	{ "fold", KF_OPT_STRING, &o.x.fold_text, "I/N", "run part I (0-based) of N, at least 2, of the texts only: those that kf-train --fold I/N left out; "
		"give the sets of all N to kf-align", 0, 0, KF_OPT_SHAPES | KF_OPT_OFF },
	{ "precision", KF_OPT_CHOICE, &o.precision, "packed|f32", "how numbers are stored: packed within 1/32 and 1/512 nat, or as they are",
		0, 0, KF_OPT_SHAPES },
	{ "batch-tokens", KF_OPT_INT, &o.x.batch_tokens, "N", "tokens run at once", 1, 1 << 20, 0 },
	{ "stream", KF_OPT_CHOICE, &o.x.stream, "auto|yes|no", "run a block of many tokens through one layer at a time, so that two layers "
		"and the block are in memory, not the model; auto: when the weights do not fit", 0, 0, 0 },
	{ "stream-tokens", KF_OPT_INT, &o.x.stream_tokens, "N", "tokens of a block, 0 for what memory allows: the weights are read once "
		"a block", 0, 1 << 30, 0 },
	{ "scratch", KF_OPT_STRING, &o.x.scratch, "DIR", "keep a block's activations in a file on this disk, not in memory", 0, 0, 0 },
	{ "plan", KF_OPT_FLAG, &o.plan, NULL, "do not run: say what a run would take, of memory, reading, time and disk", 0, 0, 0 },
	{ "json", KF_OPT_FLAG, &o.json, NULL, "the plan as JSON", 0, 0, 0 },
	{ "memory", KF_OPT_INT, &o.x.memory, "MB", "memory to plan for, 0 for nine tenths of what is available", 0, 1e9, 0 },
	{ "compute", KF_OPT_CHOICE, &o.compute, "auto|f32|bf16|int8", "matrix products; auto is bf16 on CUDA, and on the CPU what is fastest of "
		"those that stay within 1e-3 nats a token of f32, measured on some of the text; f32 for a small corpus; int8 is the CPU's", 0, 0, KF_OPT_SHAPES },
	{ "int8", KF_OPT_STRING, &o.int8, "KINDS", "with --compute int8: the matrices it is for, all or some of head,qkv,out,up,down; the others "
		"are computed in bf16", 0, 0, 0 },
	KF_OPT_REPLACE(&o.x.replace),
	KF_OPT_BACKEND(&o.common),
	KF_OPT_SHARD(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-extract", "run a model over a corpus and keep what it predicts", "--model PATH --corpus DIR --out DIR [options]",
	NULL, table, false, true
};

static kf_status show_plan(kf_err *err)
{
	kf_extract_plan p;
	kf_buf text = { 0 };
	kf_status rc = kf_extract_make_plan(&o.x, &p, err);
	json_t *json;
	char *dump;
	if (rc != KF_OK) return rc;
	if (o.json) {
		json = kf_extract_plan_json(&p);
		dump = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
		if (dump) puts(dump);
		else rc = kf_fail(err, KF_ENOMEM, "out of memory");
		free(dump);
		json_decref(json);
		return rc;
	}
	kf_extract_plan_text(&p, &text);
	if ((rc = kf_buf_check(&text, err)) == KF_OK) fwrite(text.data, 1, text.len, stdout);
	kf_buf_release(&text);
	return rc;
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_extract_stats s;
	kf_status rc;
	(void)operands;
	if (!o.x.out && !o.plan) return kf_fail(err, KF_EUSAGE, "--out DIR is missing; try kf-extract --help");
	if (o.json && !o.plan) return kf_fail(err, KF_EUSAGE, "--json is for --plan");
	if (o.x.context == 1) return kf_fail(err, KF_EUSAGE, "--context 1 leaves no token to predict from; give at least 2, or 0");
	if ((rc = kf_backend(o.common.backend, &o.x.ops, &o.compute, err)) != KF_OK) return rc;
	if ((rc = kf_parse_part("shard", o.common.shard, &o.x.part, &o.x.parts, err)) != KF_OK) return rc;
	if ((rc = kf_parse_part("fold", o.x.fold_text, &o.x.fold, &o.x.folds, err)) != KF_OK) return rc;
	if (o.x.fold_text && o.x.folds < 2)
		return kf_fail(err, KF_EUSAGE, "--fold %s is the whole text; N must be 2 or more", o.x.fold_text);
	if (o.x.replace && o.x.parts > 1 && o.compute == KF_COMPUTE_AUTO)
		return kf_fail(err, KF_EUSAGE, "--replace with --shard: parts that begin at once could choose different ways to compute; give --compute");
	o.x.threads = (int)o.common.threads;
	o.x.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress;
	o.x.byte_path = o.byte_path == 0;
	o.x.f32 = o.precision == 1;
	o.x.compute = (kf_compute)o.compute;
	if ((rc = kf_int8_parse(o.int8, &o.x.int8, err)) != KF_OK) return rc;
	if (o.plan) return show_plan(err);
	if (!(o.x.record = kf_opt_record(&program))) return kf_fail(err, KF_ENOMEM, "out of memory");
	rc = kf_extract(&o.x, &s, err);
	json_decref(o.x.record);
	if (rc != KF_OK || o.common.quiet) return rc;
	if (s.no_conversations && o.x.chat_template)
		fprintf(stderr, "kf-extract: notice: %s has no conversations: --chat-template %s changes nothing\n", o.x.corpus, o.x.chat_template);
	if (s.state == KF_SET_CURRENT) {
		printf("%s: up to date\n", o.x.out);
		return KF_OK;
	}
	printf("%s: %" PRIu64 " tokens of %" PRIu64 " documents, %.0f tokens a second", o.x.out, s.tokens, s.documents,
		s.seconds > 0 ? (double)s.tokens / s.seconds : 0);
	if (s.streamed)
		printf("; layer by layer in %" PRIu64 " block%s, %.2f GB of weights read, %.1f s waited for them", s.blocks,
			s.blocks == 1 ? "" : "s", (double)s.bytes_read * 1e-9, s.waited);
	else
		printf("; computing waited %.1f s for text and %.1f s for the writer", s.waited_text, s.waited_writer);
	printf("%s\n", s.complete ? "" : "; other parts of the corpus are still to do");
	return KF_OK;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
