//! Development commands of ipfilter, and the network playground they share with the tests.
