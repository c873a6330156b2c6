"""The record of flows between slices and the world: who sent this packet?  As PlanetFlow had it."""
