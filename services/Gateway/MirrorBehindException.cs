namespace Ministries.Gateway;

/// <summary>The mirror's database is behind what this gateway knows of it: it was put back, and is looked at anew.</summary>
internal sealed class MirrorBehindException() : IOException("the mirror's database was put back to an earlier state");
