#include "common/base/opt_help.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { WIDTH = 100, INDENT = 30, WORDS = 1024 };

/* What every program answers besides its table. */
static const kf_opt always[] = {
	{ "help", KF_OPT_FLAG, NULL, NULL, "print this and stop", 0, 0, 0 },
	{ "version", KF_OPT_FLAG, NULL, NULL, "print the version and stop", 0, 0, 0 },
	{ 0 }
};

/* The default, as text; "" where there is none to tell. */
static void default_text(const kf_opt *o, char *out, size_t size)
{
	*out = 0;
	if (!o->value) return;
	switch (o->kind) {
	case KF_OPT_INT:
		snprintf(out, size, "%ld", *(long *)o->value);
		break;
	case KF_OPT_REAL:
		if (!isnan(*(double *)o->value)) snprintf(out, size, "%g", *(double *)o->value);
		break;
	case KF_OPT_CHOICE:
		kf_opt_choice(o->arg, *(int *)o->value, out, size);
		break;
	case KF_OPT_STRING:
		if (*(const char **)o->value) snprintf(out, size, "%s", *(const char **)o->value);
		break;
	default:
		break;
	}
}

/* An option's help with what the table knows besides. */
static void describe(const kf_opt *o, char out[WORDS])
{
	char given[256];

	default_text(o, given, sizeof given);
	snprintf(out, WORDS, "%s%s%s%s%s%s", o->help, o->flags & KF_OPT_REQUIRED ? " (required)" : "",
		o->kind == KF_OPT_LIST ? " (repeat for more)" : "", *given ? " [" : "", given, *given ? "]" : "");
}

/* ---- for people ---- */

/* Characters, not bytes: help is UTF-8. */
static int columns(const char *s, size_t bytes)
{
	int n = 0;

	for (size_t i = 0; i < bytes; i++) n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

/* Words of text from column at on, broken before WIDTH, the next lines indented. An empty line stays one. */
static void wrap(FILE *out, const char *text, int at, int indent)
{
	bool first = true;

	while (*(text += strspn(text, " "))) {
		size_t len = strcspn(text, " \n");
		int n = columns(text, len);

		if (*text == '\n') {
			if (*++text != '\n') continue;
			fprintf(out, "\n\n%*s", indent, "");
			at = indent;
			first = true;
			continue;
		}
		if (!first && at + 1 + n > WIDTH) {
			fprintf(out, "\n%*s", indent, "");
			at = indent;
			first = true;
		}
		at += fprintf(out, "%s%.*s", first ? "" : " ", (int)len, text) - (int)len + n;
		first = false;
		text += len;
	}
	fputc('\n', out);
}

static void help_options(const kf_opt *o, FILE *out)
{
	char text[WORDS];

	for (; o->kind != KF_OPT_END; o++) {
		int n = fprintf(out, "  --%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");

		if (n > INDENT - 2) fprintf(out, "\n%*s", INDENT, "");
		else fprintf(out, "%*s", INDENT - n, "");
		describe(o, text);
		wrap(out, text, INDENT, INDENT);
	}
}

static void help(const kf_program *p, FILE *out)
{
	fprintf(out, "%s: %s\n\n", p->name, p->summary);
	wrap(out, p->usage, fprintf(out, "Usage: %s ", p->name), 11);
	fputs("\nOptions:\n", out);
	help_options(p->opts, out);
	help_options(always, out);
	if (p->notes) {
		fputc('\n', out);
		wrap(out, p->notes, 0, 0);
	}
}

/* ---- a manual page ---- */

static void man_text(FILE *out, const char *s)
{
	bool line = true;

	for (; *s; s++) {
		if (*s == '\\') fputs("\\e", out);
		else if (*s == '-') fputs("\\-", out);
		else if (line && (*s == '.' || *s == '\'')) fprintf(out, "\\&%c", *s);
		else fputc(*s, out);
		line = *s == '\n';
	}
}

static void man_options(const kf_opt *o, FILE *out)
{
	char text[WORDS];

	for (; o->kind != KF_OPT_END; o++) {
		fputs(".TP\n\\fB\\-\\-", out);
		man_text(out, o->name);
		fputs("\\fR", out);
		if (o->arg) {
			fputs(o->kind == KF_OPT_CHOICE ? " " : " \\fI", out);
			man_text(out, o->arg);
			if (o->kind != KF_OPT_CHOICE) fputs("\\fR", out);
		}
		fputc('\n', out);
		describe(o, text);
		man_text(out, text);
		fputc('\n', out);
	}
}

static void man_page(const kf_program *p, FILE *out)
{
	fputs(".TH ", out);
	for (const char *c = p->name; *c; c++) fputc(toupper((unsigned char)*c), out);
	fprintf(out, " 1 \"\" \"kfuse %s\" \"User Commands\"\n.SH NAME\n", KF_VERSION);
	man_text(out, p->name);
	fputs(" \\- ", out);
	man_text(out, p->summary);
	fputs("\n.SH SYNOPSIS\n.B ", out);
	man_text(out, p->name);
	fputc('\n', out);
	man_text(out, p->usage);
	fputs("\n.SH OPTIONS\n", out);
	man_options(p->opts, out);
	man_options(always, out);
	if (p->notes) {
		fputs(".SH NOTES\n", out);
		man_text(out, p->notes);
		fputc('\n', out);
	}
	fputs(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n", out);
}

/* ---- bash ---- */

static bool is_path(const char *arg)
{
	return arg && (strstr(arg, "DIR") || strstr(arg, "PATH") || strstr(arg, "FILE"));
}

static void completion(const kf_program *p, FILE *out)
{
	char function[64];
	size_t n = 0;

	for (const char *c = p->name; *c && n + 1 < sizeof function; c++) function[n++] = *c == '-' ? '_' : *c;
	function[n] = 0;
	fprintf(out, "_%s()\n{\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
		"\tCOMPREPLY=()\n\tcase $prev in\n", function);
	for (const kf_opt *o = p->opts; o->kind != KF_OPT_END; o++) {
		if (o->kind == KF_OPT_CHOICE) {
			fprintf(out, "\t--%s) COMPREPLY=($(compgen -W \"", o->name);
			for (const char *c = o->arg; *c; c++) fputc(*c == '|' ? ' ' : *c, out);
			fputs("\" -- \"$cur\")); return ;;\n", out);
		} else if (o->kind != KF_OPT_FLAG) {
			fprintf(out, "\t--%s) %sreturn ;;\n", o->name,
				is_path(o->arg) ? "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); " : "");
		}
	}
	fputs("\tesac\n\t[[ $cur == -* ]] && COMPREPLY=($(compgen -W \"", out);
	for (const kf_opt *o = p->opts; o->kind != KF_OPT_END; o++) fprintf(out, "--%s ", o->name);
	fprintf(out, "--help --version\" -- \"$cur\"))\n}\ncomplete -o default -F _%s %s\n", function, p->name);
}

bool kf_opt_asks(const kf_program *p, const char *word, FILE *out)
{
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) help(p, out);
	else if (strcmp(word, "--version") == 0) fprintf(out, "%s (kfuse) %s\n", p->name, KF_VERSION);
	else if (strcmp(word, "--man-page") == 0) man_page(p, out);
	else if (strcmp(word, "--completion") == 0) completion(p, out);
	else return false;
	return true;
}
