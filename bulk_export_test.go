package vtclient

// HeygenBulk is the bulk side of HeyGen's API, for the tests.
var HeygenBulk = heygenBulk
