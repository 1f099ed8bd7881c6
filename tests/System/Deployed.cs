// One set of containers after the other: two have more networks than Docker's standard address pools suffice for.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace Ministries.Containers.Tests;

/// <summary>The project, brought up from a file of compose once for all tests of a class. Where there are no containers, these tests are
/// skipped, and say why.</summary>
/// <param name="name">What it is called, such as <c>dev</c>.</param>
/// <param name="file">The file that stands beside docker-compose.yml.</param>
/// <param name="more">What is started beside the services and what they need.</param>
public abstract class Deployed(string name, string file, params string[] more) : IAsyncLifetime
{
    private Deployment? _deployment;
    private string? _absent;

    internal Deployment Deployment
    {
        get
        {
            Assert.SkipWhen(_absent is not null, _absent ?? "");
            return _deployment!;
        }
    }

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        _absent = await Deployment.Absent();
        if (_absent is null)
            _deployment = await Deployment.Start(name, [file], more, CancellationToken.None);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_deployment is not null)
            await _deployment.DisposeAsync();
        GC.SuppressFinalize(this);
    }
}
