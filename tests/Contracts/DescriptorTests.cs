using System.Reflection;
using System.Runtime.Loader;
using Ministries.Types.V1;

namespace Ministries.Contracts.Tests;

/// <summary>A process's first use of a contract.</summary>
public class DescriptorTests
{
    // Two threads that each make a descriptor can break both for as long as the process lives (protobuf issue 29696), so none is left to
    // be made by whoever comes first. What is there already is read without allocating anything; making one takes tens of kilobytes.
    [Fact]
    public void The_first_use_of_any_contract_makes_the_descriptors_of_all()
    {
        var process = new NewProcess();
        var contracts = process.LoadFromAssemblyPath(typeof(Agreement).Assembly.Location);
        Activator.CreateInstance(contracts.GetType(typeof(Agreement).FullName!, throwOnError: true)!);

        var files = contracts.GetTypes().Where(type => type.Name.EndsWith("Reflection", StringComparison.Ordinal)).ToArray();
        Assert.True(files.Length > 20, $"only {files.Length} files have a descriptor");
        Assert.All(
            files,
            file =>
            {
                var descriptor = file.GetProperty("Descriptor")!.GetMethod!.CreateDelegate<Func<object>>();
                var before = GC.GetAllocatedBytesForCurrentThread();
                _ = descriptor();
                Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1_000);
            }
        );
        process.Unload();
    }

    /// <summary>The library and the contracts once more, as new as in a process that has just started.</summary>
    private sealed class NewProcess() : AssemblyLoadContext(nameof(NewProcess), isCollectible: true)
    {
        protected override Assembly? Load(AssemblyName name)
        {
            var path = Path.Combine(AppContext.BaseDirectory, name.Name + ".dll");
            return File.Exists(path) ? LoadFromAssemblyPath(path) : null;
        }
    }
}
