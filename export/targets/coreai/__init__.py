"""Target `coreai`: a Core AI asset, converted from the captured program by Apple's converter."""
