// Package vtclient tells a program when its video translation is done: soon
// after it is done, with few requests, through whatever the network and the
// backend do in between.
package vtclient
