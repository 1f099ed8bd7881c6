using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Custody.V1;

namespace Ministries.Trust.Tests;

/// <summary>Etags, which stand in requests that others are shown.</summary>
public sealed class EtagTests
{
    [Fact]
    public void An_etag_tells_equal_records_from_others_and_nobody_can_try_out_what_was_seen()
    {
        var seen = new Case { Id = "case_00000000000000000000000001", DetainingPower = "UA" };
        var etag = Act.EtagOf(seen);
        Assert.Matches("^[A-Za-z0-9_-]{22}$", etag);
        Assert.Equal(etag, Act.EtagOf(seen.Clone()));
        Assert.NotEqual(etag, Act.EtagOf(new Case(seen) { DetainingPower = "KR" }));
        // What anybody can compute is not it, and the process keeps the secret that it began with.
        Assert.NotEqual(Convert.ToBase64String(SHA256.HashData(seen.ToByteArray()).AsSpan(0, 16)).TrimEnd('='), etag.Replace('-', '+').Replace('_', '/'));
        Act.KeyEtags("another"u8);
        Assert.Equal(etag, Act.EtagOf(seen));
    }
}
