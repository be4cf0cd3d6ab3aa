#include <stdio.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "join/join.h"

static struct {
	kf_join_opts j;
	bool quiet;
} o;

static const kf_opt table[] = {
	{ "out", KF_OPT_STRING, &o.j.out, "DIR", "where the whole set goes; shards that are there of an earlier run are kept", 0, 0,
		KF_OPT_REQUIRED },
	{ "copy", KF_OPT_FLAG, &o.j.copy, NULL, "copy shards, also where the file system would let them be hard links to the parts'", 0, 0, 0 },
	KF_OPT_REPLACE(&o.j.replace),
	{ "quiet", KF_OPT_FLAG, &o.quiet, NULL, "print errors only", 0, 0, 0 },
	{ "progress", KF_OPT_CHOICE, &o.j.progress, "auto|plain|json|none", "how to show progress", 0, 0, 0 },
	{ 0 }
};

static const kf_program program = {
	"kf-join", "make one set of parts that were made on different machines", "--out DIR PART…",
	"A PART is a folder that kf-prepare, kf-generate, kf-extract, kf-align, kf-fuse or kf-import wrote with --shard I/N. Parts must be of one "
	"corpus, model and options (what differs is named), have every shard once, and none that is damaged. Of a corpus, aligned sets and "
	"targets the statistics of the whole are added by the stage's own command, run with --out DIR: it has nothing else to do then.",
	table, true, true
};

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_join_stats s;
	kf_status rc;

	if (!operands->n) return kf_fail(err, KF_EUSAGE, "no parts: name the folders to join; see kf-join --help");
	o.j.part = operands->item;
	o.j.n_parts = operands->n;
	if (o.quiet) o.j.progress = KF_PROGRESS_NONE;
	if ((rc = kf_join(&o.j, &s, err)) != KF_OK || o.quiet) return rc;
	if (s.state == KF_SET_CURRENT) printf("%s: up to date\n", o.j.out);
	else
		printf("%s: %d shards, %d linked and %d copied%s%s%s\n", o.j.out, s.shards, s.linked, s.copied,
			s.unfinished ? "; its statistics: run " : "", s.unfinished ? s.program : "", s.unfinished ? " on it" : "");
	return KF_OK;
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
