# SPDX-License-Identifier: GPL-2.0-only
#
# Included by tests/qemu/tests.mk, whose variables it uses: builds the library, and what its tests are beside programs of
# one file each.

# The library as people build it, but apart from what they have built, which may be of another compiler. Its own Makefile
# knows whether there is anything to do.
libgmemfd := $(OUT)/libgmemfd/libgmemfd.a
$(libgmemfd): always
	@$(MAKE) --no-print-directory -s -C lib OUT=$(CURDIR)/$(OUT)/libgmemfd

library-tests := $(filter $(OUT)/tests/libgmemfd-%,$(tests))
$(library-tests): libs := $(libgmemfd)
$(library-tests): $(libgmemfd)

# A caller in C++, by the oldest and the newest standard that is promised.
callers := $(OUT)/cxx/caller-cxx11.o $(OUT)/cxx/caller-cxx20.o
$(callers): $(OUT)/cxx/caller-%.o: tests/libgmemfd/caller.cc tests/libgmemfd/libgmemfd.mk
	@mkdir -p $(@D)
	g++ -std=$(subst cxx,c++,$*) -O2 -Wall -Wextra -Werror -pedantic -DENTRY=called_from_$* -Iinclude/uapi -Ilib \
		-MMD -MP -c $< -o $@

$(OUT)/tests/libgmemfd-cplusplus: objects := $(callers)
$(OUT)/tests/libgmemfd-cplusplus: $(callers)

# Tests of the library in one program, as somebody builds it who has installed the library: a few, for all that it calls is
# resolved at its start. And all that do not run guests under sanitizers, which have to see the library and the harness
# too. Both are dynamic, and run by libgmemfd-builds.
some := $(patsubst %,tests/libgmemfd/%.c,device file)
most := $(some) $(patsubst %,tests/libgmemfd/%.c,range watch)
dest := $(CURDIR)/$(OUT)/libgmemfd/dest
$(OUT)/libgmemfd/shared: $(some) $(lib) $(libgmemfd) tests/libgmemfd/lib.h tests/libgmemfd/libgmemfd.mk
	rm -rf $(dest)
	@$(MAKE) --no-print-directory -s -C lib install OUT=$(CURDIR)/$(OUT)/libgmemfd DESTDIR=$(dest) PREFIX=/usr
	gcc -std=gnu11 -O2 -D_GNU_SOURCE -pthread -Itests/lib $(some) $(lib) -o $@ -Wl,-rpath,'$$ORIGIN' $$(env \
		PKG_CONFIG_SYSROOT_DIR=$(dest) PKG_CONFIG_LIBDIR=$(dest)/usr/lib/pkgconfig pkg-config --cflags --libs libgmemfd)

SANITIZE := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
$(OUT)/libgmemfd/sanitized: $(most) $(lib-src) $(libgmemfd) tests/libgmemfd/lib.h $(wildcard tests/lib/*.h) \
		tests/libgmemfd/libgmemfd.mk
	@$(MAKE) --no-print-directory -s -C lib OUT=$(CURDIR)/$(OUT)/libgmemfd.asan CFLAGS='$(SANITIZE)' \
		$(CURDIR)/$(OUT)/libgmemfd.asan/libgmemfd.a
	gcc -std=gnu11 $(SANITIZE) -D_GNU_SOURCE -pthread -Iinclude/uapi -Iinclude -Ilib -Itests/lib $(most) $(lib-src) \
		$(OUT)/libgmemfd.asan/libgmemfd.a -ljson-c -o $@

# The same without them, for valgrind, which has to see what is called where.
$(OUT)/libgmemfd/plain: $(most) $(lib-src) $(libgmemfd) tests/libgmemfd/lib.h $(wildcard tests/lib/*.h) \
		tests/libgmemfd/libgmemfd.mk
	gcc -std=gnu11 -O1 -g -D_GNU_SOURCE -pthread -Iinclude/uapi -Iinclude -Ilib -Itests/lib $(most) $(lib-src) \
		$(libgmemfd) -ljson-c -o $@

all: $(OUT)/libgmemfd/shared $(OUT)/libgmemfd/sanitized $(OUT)/libgmemfd/plain

.PHONY: always
-include $(wildcard $(OUT)/cxx/*.d)
