// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page servers that die, and those that take over: nothing is lost, nothing is provided twice.
 */
#include "cli.h"

#include "../../tools/ledger.h"
#include "gmem.h"

#define PAGES 64
#define IMAGE "/tmp/image"
#define STATE "/tmp/state"

static size_t bytes(void)
{
	return PAGES * page_size();
}

static void touch(struct gmem_toucher *toucher, const struct cli_vmm *vmm, size_t page)
{
	*toucher = (struct gmem_toucher){ .addr = vmm->map + page * page_size() };
	gmem_toucher_start(toucher);
}

static bool has_image(const struct cli_vmm *vmm, size_t page)
{
	return TOUCH_READ(vmm->map + page * page_size()) == 0 &&
	       pattern_is(vmm->map + page * page_size(), page_size(), page * page_size());
}

static bool has_zeros(const struct cli_vmm *vmm, size_t page)
{
	return TOUCH_READ(vmm->map + page * page_size()) == 0 &&
	       all_bytes_are(vmm->map + page * page_size(), page_size(), 0);
}

static int byte_of(size_t page)
{
	unsigned char content[4096];

	pattern_fill(content, sizeof(content), page * page_size());
	return content[0];
}

/* A thread waits for a page, and the server is killed. */
TEST(server_killed_hold)
{
	struct gmem_toucher waiting;
	struct cli_vmm vmm;
	pid_t server, next;

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background", "--policy", "hold");
	CHECK(has_image(&vmm, 0));
	server = cli_server(vmm.run.pid, 0);
	REQUIRE(server);
	cli_stop(server);
	touch(&waiting, &vmm, 40);
	REQUIRE(gmem_waiters(vmm.fd, 1, 10));
	REQUIRE_OK(kill(server, SIGKILL));
	CHECK_EQ(gmem_toucher_join(&waiting), byte_of(40));
	next = cli_server(vmm.run.pid, server);
	CHECK(next);
	for (size_t page = 0; page < PAGES; page++)
		CHECK(has_image(&vmm, page));
	CHECK(cli_says(&vmm.run, "the page server of the command died of signal 9"));
	cli_vmm_end(&vmm);
	CHECK_EQ(task_state(next), 0);
}

TEST(server_killed_poison)
{
	struct gmem_toucher waiting;
	struct cli_vmm vmm;
	pid_t server;

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background");
	server = cli_server(vmm.run.pid, 0);
	REQUIRE(server);
	cli_stop(server);
	touch(&waiting, &vmm, 40);
	REQUIRE(gmem_waiters(vmm.fd, 1, 10));
	REQUIRE_OK(kill(server, SIGKILL));
	/* Unless the next server is quicker than the one who waits. */
	if (gmem_toucher_join(&waiting) == -1)
		CHECK_EQ(waiting.sig, SIGBUS);
	else
		CHECK_EQ(waiting.value, byte_of(40));
	REQUIRE(cli_server(vmm.run.pid, server));
	REQUIRE(wait_for(!xgmem_stats(vmm.fd).orphans, 10));
	CHECK(has_image(&vmm, 40));
	cli_vmm_end(&vmm);
}

/* What was given back is zeros, also for the next server. */
TEST(punched)
{
	struct cli_vmm vmm;
	pid_t server;

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background", "--policy", "hold");
	for (size_t page = 5; page < 8; page++)
		CHECK(has_image(&vmm, page));
	REQUIRE_OK(gmem_punch(vmm.fd, 5 * page_size(), page_size()));
	CHECK(has_zeros(&vmm, 5));
	REQUIRE_OK(gmem_punch(vmm.fd, 6 * page_size(), page_size()));
	server = cli_server(vmm.run.pid, 0);
	REQUIRE_OK(kill(server, SIGKILL));
	REQUIRE(cli_server(vmm.run.pid, server));
	CHECK(has_zeros(&vmm, 6));
	CHECK(has_zeros(&vmm, 5));
	CHECK(has_image(&vmm, 7));
	/* A neighbour of theirs was given back and must not come back by itself. */
	REQUIRE_OK(gmem_punch(vmm.fd, 7 * page_size(), page_size()));
	CHECK(has_image(&vmm, 20));
	CHECK(!gmem_has_content(vmm.fd, 7 * page_size()));
	cli_vmm_end(&vmm);
}

/* The keeper goes, and its server with it; somebody else takes over. */
static const struct takeover {
	const char *label;
	const char *state[3];
} takeovers[] = {
	{ "plain", { NULL, NULL, NULL } },
	{ "state", { "--state", STATE, NULL } },
};

TEST_EACH(keeper_killed, struct takeover, takeovers)
{
	struct gmem_toucher waiting;
	struct cli attach;
	struct cli_vmm vmm;
	pid_t server;
	char pid[16];

	unlink(STATE);
	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background", "--policy", "hold", row->state[0], row->state[1]);
	CHECK(has_image(&vmm, 3));
	CHECK(has_image(&vmm, 4));
	REQUIRE_OK(gmem_punch(vmm.fd, 4 * page_size(), page_size()));
	server = cli_server(vmm.run.pid, 0);
	REQUIRE_OK(kill(vmm.run.pid, SIGKILL));
	cli_end(&vmm.run, 10);
	CHECK_EQ(vmm.run.code, 128 + SIGKILL);
	CHECK(wait_for(!task_state(server) || task_state(server) == 'Z', 10));
	REQUIRE(wait_for(xgmem_stats(vmm.fd).orphans, 10));
	touch(&waiting, &vmm, 40);
	REQUIRE(gmem_waiters(vmm.fd, 1, 10));

	snprintf(pid, sizeof(pid), "%d", vmm.command);
	attach = cli_run(-1, "attach", "--quiet", "--pid", pid, "--fd", vmm.number, "--image", IMAGE, row->state[0],
			 row->state[1]);
	CHECK_EQ(gmem_toucher_join(&waiting), byte_of(40));
	CHECK(has_image(&vmm, 3));
	/* Without a state it cannot be known that this had been provided before. */
	if (row->state[0])
		CHECK(has_zeros(&vmm, 4));
	for (size_t page = 5; page < 64; page++)
		if (page != 4)
			CHECK(has_image(&vmm, page));
	REQUIRE_OK(kill(vmm.command, SIGKILL));
	cli_end(&attach, 10);
	CHECK_CLI(attach, 0, NULL);
	CHECK_ERRNO(access(STATE, F_OK), ENOENT);
}

/* A VMM whose page server is gone together with its keeper. */
static struct cli_vmm orphan(const char *state, char *pid, size_t size)
{
	struct cli_vmm vmm;

	unlink(state);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background", "--policy", "hold", "--state", state);
	CHECK(has_image(&vmm, 3));
	REQUIRE_OK(kill(vmm.run.pid, SIGKILL));
	cli_end(&vmm.run, 10);
	REQUIRE(wait_for(xgmem_stats(vmm.fd).orphans, 10));
	snprintf(pid, size, "%d", vmm.command);
	return vmm;
}

static void end_orphan(struct cli_vmm *vmm)
{
	REQUIRE_OK(munmap(vmm->map, vmm->bytes));
	REQUIRE_OK(close(vmm->fd));
	REQUIRE_OK(kill(vmm->command, SIGKILL));
}

/* With a state that is another's, or another image, memory would silently be wrong. */
TEST(state_of_another)
{
	struct cli_vmm vmm, other;
	char pid[16], other_pid[16];
	struct cli c;
	int fd;

	cli_image(IMAGE, PAGES, 0, 0);
	cli_image(IMAGE ".other", PAGES, 0, 0);
	vmm = orphan(STATE, pid, sizeof(pid));
	other = orphan(STATE ".other", other_pid, sizeof(other_pid));
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE, "--state", "/tmp/none");
	CHECK_CLI(c, 1, "there is no state file /tmp/none");
	CHECK_ERRNO(access("/tmp/none", F_OK), ENOENT);
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE, "--state", STATE ".other");
	CHECK_CLI(c, 1, "belongs to other memory");
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE ".other", "--state", STATE);
	CHECK_CLI(c, 1, "belongs to another image");
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE, "--state", IMAGE ".other");
	CHECK_CLI(c, 1, "is none, or of another version");
	fd = REQUIRE_FD(open(IMAGE, O_WRONLY));
	REQUIRE_EQ(pwrite(fd, "x", 1, 0), 1);
	close(fd);
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE, "--state", STATE);
	CHECK_CLI(c, 1, "belongs to the image as it was");
	end_orphan(&vmm);
	end_orphan(&other);
}

/*
 * A server that is killed between a bit of the ledger and its counter leaves the counter short. The next one counts
 * anew, and so knows when all is there.
 */
TEST(counter_short)
{
	struct cli_vmm vmm;
	struct cli attach;
	struct ledger *state;
	char pid[16];
	int fd;

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = orphan(STATE, pid, sizeof(pid));
	fd = REQUIRE_FD(open(STATE, O_RDWR));
	state = xmmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	state->provided = 0;
	state->faults = state->answered + 3;
	attach = cli_run(-1, "attach", "--json", "--pid", pid, "--fd", vmm.number, "--image", IMAGE, "--state", STATE);
	CHECK(cli_says(&attach, "{\"event\":\"complete\""));
	CHECK_EQ(state->provided, bytes());
	/* Nor does anybody wait for the answers of the dead one. */
	CHECK_EQ(state->answered, state->faults);
	end_orphan(&vmm);
	cli_end(&attach, 10);
	CHECK_EQ(attach.code, 0);
	CHECK_EQ(cli_json(attach.err, "\"end\"", "provided"), bytes());
	close(fd);
}

#define GIVEN_UP "no other page server is started"

/* A server that dies again and again is given up; under hold its waiters wait on, and somebody may attach. */
TEST(given_up)
{
	struct gmem_toucher waiting;
	struct cli_vmm vmm;
	struct cli attach;
	pid_t server = 0;
	double end = now_seconds() + 20 * tap_slow();
	int deaths = 0;
	char pid[16];

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background", "--policy", "hold");
	/* Six deaths within ten seconds of the first: on a slow machine it may take more of them, never fewer. */
	while (!strstr(cli_err(&vmm.run), GIVEN_UP) && now_seconds() < end) {
		pid_t next = cli_child_now(vmm.run.pid, "gmemctl-server", server);

		if (next && !kill(next, SIGKILL)) {
			server = next;
			deaths++;
		}
		sleep_seconds(0.001);
	}
	REQUIRE(strstr(cli_err(&vmm.run), GIVEN_UP));
	CHECK(deaths >= 6);
	touch(&waiting, &vmm, 40);
	REQUIRE(gmem_waiters(vmm.fd, 1, 10));
	snprintf(pid, sizeof(pid), "%d", vmm.command);
	attach = cli_run(-1, "attach", "--quiet", "--pid", pid, "--fd", vmm.number, "--image", IMAGE,
			 "--no-background", "--policy", "poison");
	CHECK_EQ(gmem_toucher_join(&waiting), byte_of(40));
	CHECK(has_image(&vmm, 0));
	/* Its end is told as what it is; the policy that it has set takes effect. */
	REQUIRE_OK(kill(attach.pid, SIGTERM));
	cli_end(&attach, 10);
	CHECK_CLI(attach, 1, "ended by signal 15");
	REQUIRE(wait_for(xgmem_stats(vmm.fd).orphans, 10));
	CHECK_EQ(TOUCH_READ(vmm.map + 32 * page_size()), 0);
	CHECK_EQ(TOUCH_READ(vmm.map + 63 * page_size()), SIGBUS);
	cli_vmm_end(&vmm);
}

TEST(attach_refused)
{
	struct cli_vmm vmm;
	struct cli c;
	char pid[16], number[16];
	int plain = REQUIRE_FD(open(IMAGE, O_RDWR | O_CREAT, 0600));

	cli_image(IMAGE, PAGES, 0, 0);
	vmm = cli_vmm(bytes(), "--image", IMAGE, "--no-background", "--quiet");
	snprintf(pid, sizeof(pid), "%d", vmm.command);
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE);
	CHECK_CLI(c, 1, "has a page server, which is alive");
	c = cli("attach", "--pid", pid, "--fd", "77", "--image", IMAGE);
	CHECK_CLI(c, 1, "there is no such process or descriptor");
	c = cli("attach", "--pid", "999999", "--fd", "3", "--image", IMAGE);
	CHECK_CLI(c, 1, "process 999999: No such process");
	snprintf(number, sizeof(number), "%d", getpid());
	snprintf(pid, sizeof(pid), "%d", plain);
	c = cli("attach", "--pid", number, "--fd", pid, "--image", IMAGE);
	CHECK_CLI(c, 1, "is no gmem file");
	c = cli("attach", "--fd", "3", "--image", IMAGE);
	CHECK_CLI(c, 2, "--pid is missing");
	c = cli("attach", "--pid", "1", "--image", IMAGE);
	CHECK_CLI(c, 2, "--fd is missing");
	cli_vmm_end(&vmm);

	/* All is there already. */
	vmm = cli_vmm(bytes(), "--image", IMAGE);
	REQUIRE(cli_says(&vmm.run, "has been provided"));
	snprintf(pid, sizeof(pid), "%d", vmm.command);
	c = cli("attach", "--pid", pid, "--fd", vmm.number, "--image", IMAGE);
	CHECK_CLI(c, 1, "needs no page server");
	cli_vmm_end(&vmm);
}
