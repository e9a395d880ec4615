// SPDX-License-Identifier: GPL-2.0
// Vectors that grow, strings, arrays of lines. With an argument: of so many MiB, until there is no more.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <vector>

struct alignas(64) line { long at[8]; };

static void until_the_end(size_t mib)
{
	std::vector<double> v;
	size_t most = 0;

	try {
		while (v.size() < (mib << 20) / sizeof(double))
			v.push_back((double)v.size());
	} catch (const std::bad_alloc &) {
		std::printf("no more\n");
	}
	for (size_t i = 0; i < v.size(); i++)
		most += v[i] != (double)i;
	std::vector<double>().swap(v);
	std::vector<line> lines(1000000);
	std::printf("%zu differ, %ld\n", most, lines[999999].at[7]);
	std::printf("%s\n", operator new(mib << 20, std::nothrow) ? "a block" : "no block");
}

int main(int argc, char **argv)
{
	std::vector<double> v;
	std::string s;

	if (argc > 1) {
		until_the_end(std::strtoul(argv[1], nullptr, 10));
		return 0;
	}
	for (int i = 0; i < 3000000; i++)
		v.push_back(i * 0.5);
	for (int i = 0; i < 700000; i++)
		s += "grow";
	std::vector<line> lines(100000);
	lines[99999].at[7] = 7;
	std::vector<std::unique_ptr<std::vector<char>>> many;
	for (int i = 0; i < 40; i++)
		many.push_back(std::make_unique<std::vector<char>>(2000000 + i * 50001, (char)i));
	for (int i = 0; i < 40; i += 2)
		many[i].reset();
	long sum = 0;
	for (auto &p : many)
		sum += p ? std::accumulate(p->begin(), p->end(), 0L) : 0;
	std::printf("%.1f %zu %ld %ld\n", std::accumulate(v.begin(), v.end(), 0.0), s.size(), lines[99999].at[7], sum);
}
