#include <inttypes.h>
#include <stdio.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "data/cut.h"
#include "data/prepare.h"

static struct {
	kf_prepare_opts p;
	kf_common common;
} o = { .p = { .doc_bytes = 4096, .shards = 8 } };

static const kf_opt table[] = {
	{ "out", KF_OPT_STRING, &o.p.out, "DIR", "where the corpus goes", 0, 0, KF_OPT_REQUIRED },
	{ "domain", KF_OPT_STRING, &o.p.domain, "NAME", "domain of documents that name none", 0, 0,
		KF_OPT_SHAPES },
	{ "doc-bytes", KF_OPT_INT, &o.p.doc_bytes, "N", "cut longer documents into pieces of at most N bytes",
		KF_CUT_MIN, KF_CUT_MAX, KF_OPT_SHAPES },
	{ "normalize", KF_OPT_CHOICE, &o.p.normalize, "nfc|none", "Unicode normalisation", 0, 0, KF_OPT_SHAPES },
	{ "invalid", KF_OPT_CHOICE, &o.p.invalid, "keep|refuse", "what to do with text that is not UTF-8", 0, 0,
		KF_OPT_SHAPES },
	{ "format", KF_OPT_CHOICE, &o.p.format, "auto|text|jsonl", "what files hold; auto goes by their names, and of *.json by its first record",
		0, 0, KF_OPT_SHAPES },
	{ "skip-bad", KF_OPT_REAL, &o.p.skip_bad, "PERCENT", "leave out records that are not what they should be, and name the first of them, "
		"if they are at most so many; 0: the first ends the run", 0, 100, 0 },
	{ "split", KF_OPT_CHOICE, &o.p.split, "all|train|valid|test",
		"take one part only: by a record's \"split\", else by a hash of its id (8:1:1)", 0, 0, KF_OPT_SHAPES },
	{ "docs-per-domain", KF_OPT_INT, &o.p.docs_per_domain, "N",
		"take so many documents (pieces) of each domain: the first, or with --seed a random choice; 0: all",
		0, 1e9, KF_OPT_SHAPES },
	{ "shards", KF_OPT_INT, &o.p.shards, "N", "parts of the corpus, for later stages to share out", 1,
		KF_MAX_SHARDS, 0 },
	KF_OPT_REPLACE(&o.p.replace),
	KF_OPT_SHARD(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-prepare", "turn text into a corpus", "--out DIR [options] FILE|FOLDER|- …",
	"Files are text, a document each, or records of JSON, a document each: a line each (*.jsonl, *.ndjson) or a list (*.json);\n"
	"as they are, or packed by gzip or zstd. A record has \"text\", or \"messages\" of a conversation ([{\"role\": …, \"content\": …}, …]),\n"
	"and, as there are, \"id\", \"domain\", \"split\". A conversation is cut only before a message of the user. Folders are searched\n"
	"through.",
	table, true, true
};

static void show_bad(const kf_prepare_stats *s)
{
	fprintf(stderr, "kf-prepare: notice: %" PRIu64 " of %" PRIu64 " records are bad and were left out:\n", s->bad, s->records);
	for (uint64_t i = 0; i < s->bad && i < KF_BAD_SHOWN; i++) fprintf(stderr, "  %s\n", s->bad_text[i]);
	if (s->bad > KF_BAD_SHOWN) fprintf(stderr, "  and %" PRIu64 " more\n", s->bad - KF_BAD_SHOWN);
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_prepare_stats s;
	char left_out[64] = "";
	kf_status rc;

	o.p.paths = operands->item;
	o.p.n_paths = operands->n;
	o.p.seed = (uint64_t)o.common.seed;
	o.p.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress;
	if ((rc = kf_parse_part("shard", o.common.shard, &o.p.part, &o.p.parts, err)) != KF_OK) return rc;
	if (!(o.p.record = kf_opt_record(&program))) return kf_fail(err, KF_ENOMEM, "out of memory");
	/* The seed shapes the content only where there is a choice. */
	if (o.p.docs_per_domain && json_object_set_new(o.p.record, "seed", json_integer(o.common.seed)) < 0) {
		rc = kf_fail(err, KF_ENOMEM, "out of memory");
		goto out;
	}
	if ((rc = kf_prepare(&o.p, &s, err)) != KF_OK || o.common.quiet) goto out;
	if (s.not_utf8)
		fprintf(stderr, "kf-prepare: notice: %" PRIu64 " documents are not UTF-8 and are kept byte for byte, "
			"the first in %s\n", s.not_utf8, s.first_not_utf8);
	if (s.bad) show_bad(&s);
	if (s.empty) fprintf(stderr, "kf-prepare: notice: %" PRIu64 " of %" PRIu64 " records have no text and were left out\n", s.empty, s.records);
	if (s.again)
		fprintf(stderr, "kf-prepare: notice: files given more than once: %d; what they hold is in the corpus as often. The first is %s\n",
			s.again, s.first_again);
	if (s.left_out)
		fprintf(stderr, "kf-prepare: notice: %d files are empty, blank or (in folders) no files of text, and were left out\n", s.left_out);
	if (s.no_text)
		fprintf(stderr, "kf-prepare: notice: %d files are not text, having a NUL byte in them, and were left out; the first is %s (gzip and zstd are unpacked, others are "
			"not; UTF-16 is not read)\n", s.no_text, s.first_no_text);
	if (s.plain)
		fprintf(stderr, "kf-prepare: notice: files called .json that are taken for a text, as no record with \"text\", \"messages\" or \"conversations\" comes first: %d. "
			"The first is %s (--format text: as it should be)\n", s.plain, s.first_plain);
	if (s.bad) snprintf(left_out, sizeof left_out, "; %" PRIu64 " bad records left out", s.bad);
	if (s.state == KF_SET_CURRENT) printf("%s: up to date\n", o.p.out);
	else
		printf("%s: %" PRIu64 " documents of at most %ld bytes, %" PRIu64 " bytes in all, from %" PRIu64
			" in %d files; %d shards%s%s\n", o.p.out, s.pieces, o.p.doc_bytes, s.bytes, s.documents,
			s.files, s.shards, left_out, s.complete ? "" : "; other parts are still to do");
out:
	json_decref(o.p.record);
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
