"""Tags that several containers carry: ID3, IPTC, Vorbis comments, APE and Lyrics3."""
