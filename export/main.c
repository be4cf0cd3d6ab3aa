#include <inttypes.h>
#include <signal.h>

#include "common/base/file.h"
#include "common/base/opt.h"
#include "common/base/progress.h"
#include "export/export.h"

static struct {
	kf_export_opts x;
	int format, tail;
	kf_common common;
} o;

static const kf_opt table[] = {
	{ "set", KF_OPT_STRING, &o.x.set, "DIR", "logits, an aligned or a fused set", .flags = KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.x.out, "DIR|FILE", "a folder, one file a shard; or one file, NAME.jsonl; or - for standard output",
		.flags = KF_OPT_REQUIRED },
	{ "format", KF_OPT_CHOICE, &o.format, "jsonl|axolotl", "our own form, which kf-import reads, or what Axolotl's KD trainer does", 0, 0, 0 },
	{ "tail", KF_OPT_CHOICE, &o.tail, "renormalize|rest", "axolotl: candidates' probabilities sum to 1, or the rest is left out", 0, 0, 0 },
	KF_OPT_SHARD(&o.common),
	KF_OPT_COMMON(&o.common),
	{ 0 }
};

static const kf_program program = {
	"kf-export", "write what a set holds as JSON Lines", "--set DIR --out DIR|FILE [options]",
	"docs/import.md tells the two forms.", table, false, false
};

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_export_stats s;
	kf_pool *pool;
	kf_status rc;

	(void)operands;
	signal(SIGPIPE, SIG_IGN); /* a broken pipe shows as EPIPE */
	o.x.format = (kf_export_format)o.format;
	o.x.renormalize = o.tail == 0;
	o.x.progress = o.common.quiet ? KF_PROGRESS_NONE : o.common.progress;
	if ((rc = kf_parse_part("shard", o.common.shard, &o.x.part, &o.x.parts, err)) != KF_OK) return rc;
	if ((rc = kf_pool_new((int)o.common.threads, &pool, err)) != KF_OK) return rc;
	rc = kf_export(&o.x, pool, stdout, &s, err);
	kf_pool_free(pool);
	if (rc == KF_OK && !o.common.quiet && !kf_file_is_stdout(o.x.out))
		printf("%s: %" PRIu64 " documents of %" PRIu64 " tokens in %d file%s\n", o.x.out, s.documents, s.tokens, s.files,
			s.files == 1 ? "" : "s");
	return rc;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
