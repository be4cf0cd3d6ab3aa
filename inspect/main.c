#include <signal.h>

#include "common/base/opt.h"
#include "inspect/inspect.h"

static kf_inspect_opts o = { .doc = -1 };

static const kf_opt table[] = {
	{ "doc", KF_OPT_INT, &o.doc, "N", "only the document of this number", -1, 9007199254740992.0, 0 },
	{ "json", KF_OPT_FLAG, &o.json, NULL, "JSON Lines, one object a document, or a token of a map", 0, 0, 0 },
	{ "path", KF_OPT_FLAG, &o.path, NULL, "with --json: also the byte path's masses and extra candidates", 0, 0, 0 },
	{ "sizes", KF_OPT_FLAG, &o.sizes, NULL, "bytes a token by what they are spent on", 0, 0, 0 },
	{ "verify", KF_OPT_FLAG, &o.verify, NULL, "read everything and compare checksums", 0, 0, 0 },
	{ "repair", KF_OPT_FLAG, &o.repair, NULL, "the same, and take away the shards that are damaged: the command that made the "
		"set makes these again, and no others", 0, 0, 0 },
	{ 0 }
};

static const kf_program program = {
	"kf-inspect", "what is in a shard set or a vocabulary map", "DIR|FILE [--doc N] [--json [--path]] | [--sizes] | [--verify|--repair]",
	"A FILE is a vocabulary map that kf-align --map wrote. Without options: a summary. With --doc N alone: the document for people.\n"
	"In JSON, a number that is absent is null, an infinite one is 1e999, and a byte\n"
	"of text that is not UTF-8 is U+FFFD.", table, true, false
};

static kf_status run(const kf_list *operands, kf_err *err)
{
	if (operands->n != 1) return kf_fail(err, KF_EUSAGE, "give one folder or map, not %d; see kf-inspect --help", operands->n);
	signal(SIGPIPE, SIG_IGN); /* a broken pipe shows as EPIPE */
	if (o.path && !o.json) return kf_fail(err, KF_EUSAGE, "--path is of what --json writes: give both");
	if (o.sizes + (o.json || o.doc >= 0) + (o.verify || o.repair) > 1)
		return kf_fail(err, KF_EUSAGE, "give one of --sizes, --verify or --repair, and --doc or --json, not more");
	o.dir = operands->item[0];
	return kf_inspect(&o, stdout, err);
}

int main(int argc, char **argv)
{
	return kf_main(&program, argc, argv, run);
}
