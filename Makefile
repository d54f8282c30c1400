# SPDX-License-Identifier: GPL-2.0-only
#
# For people; kbuild does not read it (see Kbuild). `make help` says what there is.

KDIR ?= /lib/modules/$(shell uname -r)/build

# Nothing here gains from running beside another target of the same call, and their output would mix.
.NOTPARALLEL:
.PHONY: help module lib tools demo check check-packages check-bench-self bench lint deb rpm install install-lib \
	install-tools install-system install-dkms-source dkms-install dkms-remove clean

help:
	@echo 'make module               build the module for the running kernel (KDIR=... for another)'
	@echo 'make lib                  build the library for programs that use gmemfd (lib/), shared and static'
	@echo 'make tools                build gmemctl (tools/); takes libjson-c-dev and libkmod-dev'
	@echo 'make demo                 QEMU resumes a saved Linux guest whose memory is still in its image'
	@echo 'make check                build for every kernel, lint, boot every kernel and run all tests on it'
	@echo 'make check K="6.12 7.3"   boot only these kernels (tests/qemu/kernels.list)'
	@echo 'make check T="kvm trap"   run only the cases whose name contains one of these'
	@echo 'make check-packages       build the packages, install them in clean systems, boot what DKMS has built there'
	@echo 'make check-bench-self     show that the bench finds what is broken'
	@echo 'make bench                measure, side by side with memfd and userfaultfd'
	@echo 'make lint                 what can be checked without running anything'
	@echo 'make install              install the module for the running kernel (KDIR=... for another)'
	@echo 'make install-lib          install the library, its headers and man pages (PREFIX=..., LIBDIR=..., DESTDIR=...)'
	@echo 'make install-tools        install gmemctl, its man page and completions (PREFIX=..., DESTDIR=...)'
	@echo 'make install-system       let the group kvm use /dev/gmemfd, and load the module at boot'
	@echo 'make dkms-install         have DKMS build and install it, for later kernels too'
	@echo 'make dkms-remove          undo that'
	@echo 'make deb                  build packages for this release of Debian, in build/deb'
	@echo 'make rpm                  build packages for this release of Fedora and its kin, in build/rpm'
	@echo 'make clean                remove build/ (the cache of kernels and build roots stays)'

module:
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' modules

lib:
	$(MAKE) -C lib

tools: lib
	$(MAKE) -C tools

demo:
	@demo/run $(K)

check:
	@tests/qemu/check $(if $(K),-k '$(K)') $(if $(T),-t '$(T)')

check-packages:
	@tests/packages/run

check-bench-self:
	@tests/qemu/selfproof/run

bench:
	@tests/bench/run

lint:
	@tests/lint/run

install: module
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' modules_install
	depmod -a "$$(cat '$(KDIR)/include/config/kernel.release')"

install-lib:
	$(MAKE) -C lib install

install-tools: lib
	$(MAKE) -C tools install

# Where udev and systemd look for what packages bring.
install-system:
	install -d '$(DESTDIR)/usr/lib/udev/rules.d' '$(DESTDIR)/usr/lib/sysusers.d' '$(DESTDIR)/usr/lib/modules-load.d'
	install -m 644 packaging/common/60-gmemfd.rules '$(DESTDIR)/usr/lib/udev/rules.d'
	install -m 644 packaging/common/gmemfd.sysusers '$(DESTDIR)/usr/lib/sysusers.d/gmemfd.conf'
	install -m 644 packaging/common/gmemfd.modules-load '$(DESTDIR)/usr/lib/modules-load.d/gmemfd.conf'

# What DKMS gets is what building the module needs, and nothing else; no product of a build in place either.
VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
DKMS_TREE := $(DESTDIR)/usr/src/gmemfd-$(VERSION)

install-dkms-source:
	rm -rf '$(DKMS_TREE)'
	install -d '$(DKMS_TREE)'
	find Kbuild dkms.conf include src -type f \( -name Kbuild -o -name 'Kbuild.*' -o -name '*.[ch]' -o -name '*.conf' \
		-o -name '*.sh' -o -name '*.txt' \) ! -name '*.mod.c' ! -name compat-probes.h \
		-exec install -D -m 644 '{}' '$(DKMS_TREE)/{}' ';'
	find '$(DKMS_TREE)' -name '*.sh' -exec chmod 755 '{}' ';'

dkms-install: install-dkms-source
	dkms install -m gmemfd -v $(VERSION) $(if $(K),-k '$(K)')

dkms-remove:
	dkms remove -m gmemfd -v $(VERSION) --all
	rm -rf '$(DKMS_TREE)'

deb:
	@packaging/deb/build

rpm:
	@packaging/rpm/build

clean:
	@if [ -d "$(KDIR)" ]; then $(MAKE) -s -C "$(KDIR)" M="$(CURDIR)" clean; fi
	rm -rf build
