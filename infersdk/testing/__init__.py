"""For the tests of apps that use infersdk: the pytest plugin and the doubles that it hands out."""
