"""Whole web apps under load: servers, apps and wrk. ``benchmarks.cases.web_throughput`` says what is compared."""
