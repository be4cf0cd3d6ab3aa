// The last word of a program whose libraries have no memory.
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <jansson.h>
#include <new>
#include <unistd.h>

extern "C" {
#include "common/base/memory.h"
}

static std::terminate_handler was;

static void say(const char *text)
{
	ssize_t put = write(2, text, std::strlen(text));

	static_cast<void>(put);
}

/* Allocates nothing. */
[[noreturn]] static void end()
{
	say(program_invocation_short_name);
	say(": out of memory in a library; the same command goes on from what is finished\n");
	_exit(1);
}

static void *allocate(size_t n)
{
	void *p = std::malloc(n);

	if (!p && n)
		end();
	return p;
}

/* Whatever else nobody caught ends as ever. */
static void on_terminate()
{
	try {
		if (std::current_exception())
			std::rethrow_exception(std::current_exception());
	} catch (const std::bad_alloc &) {
		end();
	} catch (...) {
	}
	was();
}

void kf_memory_arm(void)
{
	json_set_alloc_funcs(allocate, std::free);
	was = std::set_terminate(on_terminate);
}
